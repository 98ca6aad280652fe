"""Exceptions on their way between processes: as themselves, with the traceback as text; as a stand-in where that can't be done.

Whether an exception loads is tried where it was raised, since many can be pickled but not made again from their `args`.
"""

from __future__ import annotations

import pickle

from prefect_core import pickling
from prefect_core.errors import RemoteError, stand_in
from prefect_core.logs import tracebacks


def dump_error(error: BaseException, place: str) -> bytes:
    """Return the exception as bytes; `place` says where it was raised. Never raises."""
    text, reason = tracebacks.text_of(error), ""
    for cause in dict.fromkeys((error.__cause__, None)):
        try:
            dumped: bytes = pickling.dumps((error, cause, error.__suppress_context__, place, text))
            # Also shows that it stays of its kind: what crashed a run there must not fail it here.
            if isinstance(pickle.loads(dumped)[0], Exception) is isinstance(error, Exception):
                return dumped
            reason = "it came back as something else"
        except Exception as failure:
            reason = f"{type(failure).__name__}: {failure}"
    return pickle.dumps((_stand_in_for(error, text, reason), None, True, place, text))


def _stand_in_for(error: BaseException, text: str, reason: str) -> RemoteError:
    kind = type(error)
    try:
        said = str(error)
    except Exception:
        said = "<its text could not be had>"
    stands_in = stand_in(kind.__name__, said, text)
    stands_in.add_note(
        f"This stands in for a {kind.__module__}.{kind.__qualname__}, which could not be sent here ({reason})."
    )
    return stands_in


def load_error(dumped: bytes) -> BaseException:
    """Return the exception, with the traceback that it had there as a note."""
    error: BaseException
    error, cause, suppresses_context, place, text = pickle.loads(dumped)
    error.__cause__ = cause
    error.__suppress_context__ = suppresses_context
    error.add_note(f"{tracebacks.RAISED_IN_WORKER}{place}:\n{text}")
    return error
