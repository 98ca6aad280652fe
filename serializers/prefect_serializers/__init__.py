"""The serializers that come with prefect_core, one format to a file."""
