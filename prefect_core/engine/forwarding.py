"""Log records of a worker on their way to the handlers of the main process.

While attempts run, the handlers of the logger `prefect_core` in the worker, and those above it, are out of office: every record that they
would have got goes to the main process, which shows it once. What is kept with a run goes with the recorder as ever. So do Python's
warnings, which would be seen on the worker alone, if anywhere.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

from prefect_core import context
from prefect_core.engine.collect import WorkerRecorder
from prefect_core.logs.records import run_of
from prefect_core.logs.setting_up import set_up

WARNINGS = "py.warnings"
"""The logger that Python itself sends warnings to, where it is asked to log them."""
_PLAIN = (type(None), bool, int, float, str)


class Forwarding(logging.Handler):
    """Stands in for the handlers of the logger `prefect_core` between `begin` and `end`."""

    def __init__(self, recorder: WorkerRecorder) -> None:
        super().__init__()
        self._recorder = recorder
        self._top = logging.getLogger("prefect_core")
        self._formatter = logging.Formatter()
        self._before: tuple[list[logging.Handler], int, bool] = ([], logging.NOTSET, True)
        self._show_warning: Any = None

    def begin(self, level: int) -> None:
        """Take over; `level` is that of the logger in the main process."""
        set_up()
        top = self._top
        self._before = (top.handlers, top.level, top.propagate)
        top.handlers, top.propagate = [self], False
        self._show_warning, warnings.showwarning = warnings.showwarning, self._warn
        if top.level != level:
            top.setLevel(level)

    def end(self) -> None:
        """Put everything back."""
        if warnings.showwarning == self._warn:
            warnings.showwarning = self._show_warning
        top = self._top
        top.handlers, level, top.propagate = self._before
        if top.level != level:
            top.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._recorder.shown(run_of(record), self._fields_of(record))
        except Exception:
            self.handleError(record)

    def _warn(
        self,
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: Any = None,
        line: str | None = None,
    ) -> None:
        around = context.current()
        if file is not None or around is None or around.log_prints:
            # Where prints are logged, what goes to sys.stderr is too.
            self._show_warning(message, category, filename, lineno, file, line)
            return
        text = warnings.formatwarning(message, category, filename, lineno, line)
        record = logging.LogRecord(WARNINGS, logging.WARNING, filename, lineno, text, None, None)
        self._recorder.shown(around.run, self._fields_of(record))

    def _fields_of(self, record: logging.LogRecord) -> dict[str, Any]:
        """Return the record as plain values: the text for message and arguments, the traceback as text."""
        fields = {name: value for name, value in vars(record).items() if isinstance(value, _PLAIN)}
        if record.exc_info and not record.exc_text:
            fields["exc_text"] = self._formatter.formatException(record.exc_info)
        return fields | {"msg": record.getMessage(), "args": None}
