"""The command line: `prefect-core`, one file per noun."""
