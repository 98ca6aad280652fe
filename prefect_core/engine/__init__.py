"""The machinery that drives runs through their states. `task_run` and `flow_run` say what happens; the rest performs it."""
