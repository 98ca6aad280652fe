"""Log records of a worker on their way to the handlers of the main process.

While attempts run, the handlers of the logger `prefect_core` in the worker, and those above it, are out of office: every record that they
would have got goes to the main process, which shows it once. What is kept with a run goes with the recorder as ever.
"""

from __future__ import annotations

import logging
from typing import Any

from prefect_core.engine.collect import WorkerRecorder
from prefect_core.logs.records import run_of
from prefect_core.logs.setting_up import set_up

_PLAIN = (type(None), bool, int, float, str)


class Forwarding(logging.Handler):
    """Stands in for the handlers of the logger `prefect_core` between `begin` and `end`."""

    def __init__(self, recorder: WorkerRecorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._top = logging.getLogger("prefect_core")
        self._formatter = logging.Formatter()
        self._before: tuple[list[logging.Handler], int, bool] = ([], logging.NOTSET, True)

    def begin(self, level: int) -> None:
        """Take over; `level` is that of the logger in the main process."""
        set_up()
        top = self._top
        self._before = (top.handlers, top.level, top.propagate)
        top.handlers, top.propagate = [self], False
        if top.level != level:
            top.setLevel(level)

    def end(self) -> None:
        """Put everything back."""
        top = self._top
        top.handlers, level, top.propagate = self._before
        if top.level != level:
            top.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._recorder.shown(run_of(record), self._fields_of(record))
        except Exception:
            self.handleError(record)

    def _fields_of(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the record as plain values: the text for message and arguments, the traceback as text."""
        fields = {name: value for name, value in vars(record).items() if isinstance(value, _PLAIN)}
        if record.exc_info and not record.exc_text:
            fields["exc_text"] = self._formatter.formatException(record.exc_info)
        return fields | {"msg": record.getMessage(), "args": None}
