"""The machinery that drives runs through their states. `task_run` and `flow_run` say what happens; the rest performs it."""

from __future__ import annotations

from prefect_core import history, logs
from prefect_core.control import steward
from prefect_core.runs import Run


def _keep(run: Run | None, level: int, logger: str, text: str, timestamp_us: int) -> None:
    history.current().logged(run, level, logger, text, timestamp_us)


# The room of logs lies below the history, so the engine, which knows both, joins them.
logs.keep_with(_keep)
# And whoever runs something has to show that it lives.
history.accompany(steward.begin)
