"""Trying again what fails for a passing reason, with a bound, and saying clearly what failed in the end."""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TypeVar

from prefect_core import clock, settings
from prefect_core.errors import StorageError, describe

R = TypeVar("R")

_FIRST_PAUSE_SECONDS = 0.05
_LONGEST_PAUSE_SECONDS = 1.0

_LASTING = frozenset(
    {
        errno.EACCES,
        errno.EBADF,
        errno.EEXIST,
        errno.EFBIG,
        errno.EINVAL,
        errno.EISDIR,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.ENOENT,
        errno.ENOSYS,
        errno.ENOTDIR,
        errno.ENOTSUP,
        errno.EPERM,
        errno.EROFS,
        errno.EXDEV,
    }
)
"""What is so today and will be in a minute. A full disk is not among them: it may be emptied."""

_LASTING_TYPES = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    FileExistsError,
    FileNotFoundError,
    ImportError,
    IsADirectoryError,
    LookupError,
    MemoryError,
    NotADirectoryError,
    PermissionError,
    RuntimeError,
    TypeError,
    ValueError,
)
_LASTING_WORDS = ("authentication", "authorized", "credential", "denied", "forbidden", "notfound", "validation")

_CURES = {
    errno.EACCES: "Make it readable and writable for this user",
    errno.EISDIR: "Choose another key",
    errno.ENOTDIR: "Choose another key",
    errno.EDQUOT: "Free some space there",
    errno.ENOSPC: "Free some space there",
    errno.EPERM: "Make it readable and writable for this user",
    errno.EROFS: "Make it writable",
}


def persistently(url: str, what: str, action: Callable[[], R]) -> R:
    """Return what `action` returns; try it again while it fails for a passing reason, for `storage_retry_seconds`.

    Raises `StorageError` in the end. One that `action` raises itself passes at once.
    """
    now = clock.current()
    begun = now.monotonic()
    until = begun + settings.current().storage_retry_seconds
    pause, tries = _FIRST_PAUSE_SECONDS, 0
    while True:
        tries += 1
        try:
            return action()
        except StorageError:
            raise
        except Exception as error:
            left = until - now.monotonic()
            if not is_passing(error) or left <= 0:
                raise _failed(url, what, error, tries, now.monotonic() - begun) from error
        now.sleep(min(pause, left))
        pause = min(pause * 2, _LONGEST_PAUSE_SECONDS)


def is_passing(error: Exception) -> bool:
    """Tell whether what failed may well succeed a little later: trouble with a disk, a connection or a server, not with the request."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno not in _LASTING
    if isinstance(error, _LASTING_TYPES):
        return False
    status = next(
        (value for name in ("status", "status_code", "code") if isinstance(value := getattr(error, name, None), int)),
        None,
    )
    if status is not None and 400 <= status < 500:
        return status in {408, 425, 429}
    # Whatever library a store is reached through, its errors are named after what they are.
    names = " ".join(kind.__name__.lower() for kind in type(error).__mro__)
    return not any(word in names for word in _LASTING_WORDS)


def _failed(url: str, what: str, error: Exception, tries: int, seconds: float) -> StorageError:
    number = error.errno if isinstance(error, OSError) else None
    reason = error.strerror if isinstance(error, OSError) and error.strerror else describe(error)
    tried = f"tried {tries} times in {seconds:.1f} s" if tries > 1 else "tried once"
    patience = " PREFECT_CORE_STORAGE_RETRY_SECONDS says how long it is tried." if is_passing(error) else ""
    cure = _CURES.get(number or 0, "See to it that it can be reached")
    return StorageError(
        f"The storage {url} can't {what}: {reason} ({tried}). {cure}, or choose another place (result_storage=, "
        f"PREFECT_CORE_RESULTS_STORAGE).{patience}"
    )
