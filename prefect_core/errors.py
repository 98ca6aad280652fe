"""Every error that prefect_core raises, in one tree.

    PrefectException
    ├── CrashedRun, FailedRun, CancelledRun     a final state without an exception of its own
    ├── PausedRun(state), UnfinishedRun         the run has no result yet
    ├── NotPausedError, FlowPauseTimeout        a run that is not to be resumed, or was not in time
    ├── MissingResult                           the result was not kept
    ├── UpstreamTaskError                       an input did not reach Completed
    ├── ParameterTypeError                      values that don't fit the annotations
    ├── ParameterBindError (TypeError)          arguments that don't fit the signature
    ├── SignatureMismatchError (TypeError)
    ├── ReservedArgumentError (TypeError)       a parameter that would hide one of our options
    ├── InvalidNameError (ValueError)
    ├── MappingLengthMismatch (TypeError), MappingMissingIterable (TypeError)
    ├── MissingContextError (RuntimeError)      asked for the current run outside of one
    ├── ConfigurationError                      settings or runner options that can't work
    │   ├── UnknownRunnerError (ValueError)
    │   ├── RunnerArgumentError (ValueError)    what stands behind the colon of a runner's name
    │   └── UnknownSerializerError (ValueError)
    ├── MissingFlowError, UnspecifiedFlowError, ScriptError(user_exc)
    ├── HistoryError                            the history can't be opened, read or written
    │   └── LeaseLost                           others took this process for dead: it may not write any more
    ├── ObjectNotFound                          no run of that id or name
    ├── NotRunnableAgain                        a flow run that can't be run again now
    ├── NotCancellable                          a run that has ended, or whose process does not answer
    ├── NotAnswering                            a run whose process lives and does not answer
    ├── NotReceiving                            a run that has ended, so nothing can be sent to it
    ├── SerializationError                      a value that can't travel or be stored
    ├── NotEncodable(path)                      a value that can't tell one call from another
    ├── StorageError                            the storage of results can't be read or written
    │   ├── ObjectMissing                       it holds no object of that key
    │   ├── ObjectDamaged                       what it holds is not what was written
    │   └── OutOfReach(url)                     a task's place does not have it: its input has to travel
    ├── ConcurrencySlotAcquisitionError         slots of a concurrency limit can't be had, or were lost
    │   └── AcquireConcurrencySlotTimeoutError (TimeoutError)    they could not be had in time
    ├── RunnerError                             a runner that can't take or finish work
    │   └── WorkerLost                          the process that ran an attempt is gone
    ├── RemoteError                             stands in for an exception that could not leave its process
    ├── BlockingWaitError (RuntimeError)        a wait that could never return
    └── NestingTooDeep (RecursionError)         runs inside runs inside runs
    Signals, which no `except Exception` stops: TerminationSignal (SystemExit), Pause(state)

All of them survive pickling, since they cross processes. A user's own exception is never wrapped.
"""

from __future__ import annotations

from typing import Any


class PrefectException(Exception):
    """The base of every error of prefect_core."""


class CrashedRun(PrefectException):
    """A run crashed, and its state holds no exception of its own."""


class FailedRun(PrefectException):
    """A run failed, and its state holds no exception of its own."""


class CancelledRun(PrefectException):
    """A run was cancelled."""


class PausedRun(PrefectException):
    """A run is paused; `state` is its state."""

    def __init__(self, *args: object, state: Any = None) -> None:
        super().__init__(*args)
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, {"state": self.state})


class NotPausedError(PrefectException):
    """A run that is to be resumed is not paused."""


class FlowPauseTimeout(PrefectException):
    """A paused run was not resumed in time."""


class UnfinishedRun(PrefectException):
    """A run has not ended, so it has no result."""


class MissingResult(PrefectException):
    """A run completed, but its value was not kept."""


class UpstreamTaskError(PrefectException):
    """An input of a run did not reach Completed, so the run can't start."""


class ParameterTypeError(PrefectException):
    """Parameters don't fit the annotations of a flow."""


class ParameterBindError(TypeError, PrefectException):
    """Arguments don't fit a function's signature."""


class SignatureMismatchError(TypeError, PrefectException):
    """Named parameters don't exist in a function's signature."""


class ReservedArgumentError(TypeError, PrefectException):
    """A function's parameter has a name that the engine uses itself."""


class InvalidNameError(ValueError, PrefectException):
    """A name contains a character that it must not."""


class MappingLengthMismatch(TypeError, PrefectException):
    """Iterables given to `map` differ in length."""


class MappingMissingIterable(TypeError, PrefectException):
    """`map` got nothing to map over."""


class MissingContextError(RuntimeError, PrefectException):
    """Something that belongs to a run was asked for outside of one."""


class ConfigurationError(PrefectException):
    """A setting or an option can't work as given."""


class RunnerArgumentError(ValueError, ConfigurationError):
    """What stands behind the colon of a runner's name can't be its argument."""


class UnknownRunnerError(ValueError, ConfigurationError):
    """No task runner is known by the given name."""


class UnknownSerializerError(ValueError, ConfigurationError):
    """No serializer is known by the given name."""


class MissingFlowError(PrefectException):
    """An entry point names no flow."""


class UnspecifiedFlowError(PrefectException):
    """A file holds several flows and the entry point names none of them."""


class ScriptError(PrefectException):
    """A file with a flow raised while it was loaded; `user_exc` is what it raised."""

    def __init__(self, *args: object, user_exc: BaseException | None = None) -> None:
        super().__init__(*args)
        self.user_exc = user_exc

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, {"user_exc": self.user_exc})


class HistoryError(PrefectException):
    """The history can't be opened, read or written."""


class LeaseLost(HistoryError):
    """Somebody declared this process dead and ended its runs, so it may not write to the history any more."""


class ObjectNotFound(PrefectException):
    """The history holds nothing of the given id or name."""


class NotRunnableAgain(PrefectException):
    """A flow run can't be run again: it completed, is paused, or may still be under way."""


class NotCancellable(PrefectException):
    """A run can't be cancelled: it has ended, or its process can't be reached."""


class NotAnswering(PrefectException):
    """The process that has a flow run lives, and has not answered what it was asked; that is withdrawn."""


class NotReceiving(PrefectException):
    """A flow run has ended, so no input can be sent to it."""


class SerializationError(PrefectException):
    """A value can't travel to where it is needed, or can't be stored."""


class NotEncodable(PrefectException):
    """A value, or a part of it, has no stable encoding, so no call can be recognised by it.

    `path` leads to the part, as `config.paths[3]`; it is empty for the value itself.
    """

    def __init__(self, *args: object, path: str = "") -> None:
        super().__init__(*args)
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, {"path": self.path})


class StorageError(PrefectException):
    """The storage of results can't be read or written."""


class ObjectMissing(StorageError):
    """The storage holds no object of the given key."""


class ObjectDamaged(StorageError):
    """The storage holds an object of the given key, but not the bytes that were written."""


class OutOfReach(StorageError):
    """A process does not get a stored value where it was told to look; `url` is the storage's."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"A value in the storage {self.url} can't be had from here. {self.reason}"


class InputNotMade(PrefectException):
    """An attempt can't be handed over as it is: an input that it was to find on its way is not made there."""


class ConcurrencySlotAcquisitionError(PrefectException):
    """Slots of a concurrency limit can't be had, or were lost while they were in use."""


class AcquireConcurrencySlotTimeoutError(TimeoutError, ConcurrencySlotAcquisitionError):
    """Slots of a concurrency limit could not be had in time."""


class RunnerError(PrefectException):
    """A task runner can't take or can't finish work."""


class WorkerLost(RunnerError):
    """The process that ran an attempt ended before it answered."""


class ValueLost(WorkerLost):
    """A value that was left with a runner's engine is gone, with the worker that held it or with the engine."""


class RemoteError(PrefectException):
    """Stands in for an exception that could not leave its process as itself: pickling or unpickling it failed.

    Its text is that exception's, and its class bears that exception's name, so messages read the same; `except RemoteError` catches it.
    `traceback_text` is the traceback as it was printed there.
    """

    type_name = ""

    def __init__(self, text: str, traceback_text: str) -> None:
        super().__init__(text)
        self.traceback_text = traceback_text

    def __reduce__(self) -> tuple[Any, ...]:
        return stand_in, (self.type_name, str(self), self.traceback_text)


def stand_in(type_name: str, text: str, traceback_text: str) -> RemoteError:
    """Make the `RemoteError` for an exception of a type with this name."""
    kind: type[RemoteError] = type(type_name, (RemoteError,), {"type_name": type_name, "__module__": __name__})
    return kind(text, traceback_text)


class BlockingWaitError(RuntimeError, PrefectException):
    """A blocking wait on an event loop's own thread could never return."""


class NestingTooDeep(RecursionError, PrefectException):
    """Runs are nested deeper than the engine allows; most likely one calls itself without an end."""


class TerminationSignal(SystemExit):
    """The process was asked to end by a signal; ends Python with exit code 128 + `signal`."""

    def __init__(self, signal: int) -> None:
        super().__init__(128 + signal)
        self.signal = signal

    def __reduce__(self) -> tuple[Any, ...]:
        return TerminationSignal, (self.signal,)


class Pause(BaseException):
    """Ends a body in a flow run that is suspended; `state` is the flow run's."""

    def __init__(self, *args: object, state: Any = None) -> None:
        super().__init__(*args)
        self.state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (type(self), self.args, {"state": self.state})


def _rebuild(kind: type[BaseException], args: tuple[object, ...], fields: dict[str, Any]) -> BaseException:
    return kind(*args, **fields)


def describe(error: BaseException) -> str:
    """Return `TypeName: text`, the form in which states' messages name an exception."""
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        # Whatever is wrong with a user's exception must not hide it.
        return f"{name}: <its text can't be had>"
    return f"{name}: {text}" if text else name


def shown(value: object, longest: int = 1000) -> str:
    """Return `repr(value)` for a message, cut to `longest` characters; of a value that has none, its type."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__name__}>"
    return text if len(text) <= longest else f"{text[:longest]}..."
