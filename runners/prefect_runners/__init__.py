"""The task runners that come with prefect_core, one engine to a file."""
