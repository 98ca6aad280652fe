"""The runner contract by theme; `prefect_core.testing.runner_contract` puts the themes together."""
