"""The logger that a body gets: it knows its run, so what it logs is shown and kept with that run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from prefect_core import context as contexts
from prefect_core.context import FlowRunContext, RunContext, TaskRunContext
from prefect_core.errors import MissingContextError
from prefect_core.logs.records import fields_of, logger_name
from prefect_core.logs.setting_up import set_up

_is_disabled: ContextVar[bool] = ContextVar("prefect_core.run_logger_disabled", default=False)
is_disabled = _is_disabled.get
"""Tell whether this code is inside `disable_run_logger()`."""


class RunLogger(logging.LoggerAdapter[logging.Logger]):
    """A logger adapter whose records carry the fields of a run, besides what a call gives as `extra`."""

    def __init__(self, logger: logging.Logger, extra: dict[str, Any]) -> None:
        super().__init__(logger, extra)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        # The standard adapter would drop the call's own `extra`, and with it `send_to_api`.
        kwargs["extra"] = {**(self.extra or {}), **(kwargs.get("extra") or {})}
        return msg, kwargs

    def isEnabledFor(self, level: int) -> bool:
        return not is_disabled() and super().isEnabledFor(level)

    def getChild(self, suffix: str) -> RunLogger:
        """Return a logger of the same run whose name goes on with `suffix`."""
        return RunLogger(self.logger.getChild(suffix), dict(self.extra or {}))


def get_run_logger(context: RunContext | None = None, **extra: Any) -> RunLogger:
    """Return the logger of the innermost run, or of the run of `context`; `extra` are further fields of its records.

    Raises `MissingContextError` outside of runs. Inside `disable_run_logger()` it returns one that logs nothing.
    """
    if context is not None and not isinstance(context, FlowRunContext | TaskRunContext):
        raise TypeError(
            f"Expected a FlowRunContext or TaskRunContext as 'context'; got {type(context).__name__}: {context!r}."
        )
    around = context if context is not None else contexts.current()
    if around is not None:
        return logger_of(around, extra)
    if is_disabled():
        nothing = logging.getLogger("prefect_core.null")
        nothing.disabled = True
        return RunLogger(nothing, extra)
    raise MissingContextError("There is no active flow or task run context.")


def logger_of(around: RunContext, extra: dict[str, Any] | None = None) -> RunLogger:
    """Return the logger of a context's run."""
    set_up()
    fields = fields_of(around.run)
    return RunLogger(logging.getLogger(logger_name(around.run)), fields | extra if extra else fields)


@contextmanager
def disable_run_logger() -> Iterator[None]:
    """Let `get_run_logger` return loggers that log nothing, for calls of `task.fn` or `flow.fn` in tests.

    It holds for the code in the `with` block and whatever that starts with its context variables.
    """
    token = _is_disabled.set(True)
    try:
        yield
    finally:
        _is_disabled.reset(token)
