"""`RunInput` and the inputs that flow runs are sent. Loads pydantic, as only flows that want an input import it.

class Approval(RunInput):
    approved: bool
    remarks: str = ""

approval = pause_flow_run(wait_for_input=Approval.with_initial_data(description="Go on?", remarks="none"))

for approval in receive_input(Approval, timeout=60): ...     in a flow that goes on meanwhile
send_input(Approval(approved=True), flow_run_id)             from anywhere
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar, overload
from uuid import UUID

from pydantic import BaseModel, PrivateAttr, create_model

from prefect_core.context import FlowRunContext
from prefect_core.history.sent import SentInput
from prefect_core.input import sending
from prefect_core.input.contents import Content, channels_of, unpacked
from prefect_core.input.receiving import InputReceiver, Wanted
from prefect_core.input_forms import Form, InvalidInput, keyset_of
from prefect_core.states import State
from prefect_core.waiting import check_timeout

T = TypeVar("T")
R = TypeVar("R", bound="RunInput")


class RunInputMetadata(BaseModel):
    """What is known of an input that was received."""

    key: str
    sender: str | None = None
    """`prefect.flow-run.` and an id, if a flow run sent it, or what the sender called itself."""
    receiver: UUID


class RunInput(BaseModel):
    """The base of forms; fields are those of a pydantic model."""

    model_config: ClassVar[Any] = {"extra": "forbid"}

    __description__: ClassVar[str | None] = None
    _metadata: RunInputMetadata | None = PrivateAttr(default=None)

    @classmethod
    def with_initial_data(cls, description: str | None = None, **initial: Any) -> type[Self]:
        """Return this form with a description, a text for whoever resumes the run, and other defaults."""
        unknown = sorted(set(initial) - set(cls.model_fields))
        if unknown:
            raise TypeError(f"{cls.__name__} has no field {', '.join(map(repr, unknown))}.")
        fields: dict[str, Any] = {name: (cls.model_fields[name].annotation, value) for name, value in initial.items()}
        made: Any = create_model(cls.__name__, __base__=cls, __module__=cls.__module__, **fields)
        made.__description__ = description if description is not None else cls.__description__
        made.__qualname__ = f"{cls.__qualname__}.<with_initial_data>"
        form: type[Self] = made
        return form

    __hash__: ClassVar[Any] = None

    def __eq__(self, other: object) -> bool:
        """Compare what was sent, and not who sent it."""
        if not isinstance(other, RunInput):
            return super().__eq__(other)
        bare, other_bare = self.model_copy(), other.model_copy()
        bare._metadata = other_bare._metadata = None
        return BaseModel.__eq__(bare, other_bare)

    @property
    def metadata(self) -> RunInputMetadata:
        """Who sent it to whom. Raises `RuntimeError` for one that was not received."""
        if self._metadata is None:
            raise RuntimeError("This input was not received, so nothing is known of its sender.")
        return self._metadata

    def send_to(self, flow_run_id: UUID | str, sender: str | None = None, key_prefix: str | None = None) -> Any:
        """Do as `send_input`."""
        return send_input(self, flow_run_id, sender, key_prefix)

    def respond(self, run_input: Any, sender: str | None = None, key_prefix: str | None = None) -> Any:
        """Send something to the flow run that sent this, as `send_input` does.

        Raises `RuntimeError` if it was not received, or not sent by a flow run.
        """
        return send_input(run_input, sending.run_that_sent(self.metadata.sender), sender, key_prefix)

    @classmethod
    def receive(
        cls,
        timeout: float | None = 3600,
        poll_interval: float = 10,
        raise_timeout_error: bool = False,
        exclude_keys: Collection[str] | None = None,
        key_prefix: str | None = None,
        flow_run_id: UUID | str | None = None,
    ) -> InputReceiver[Self]:
        """Return an iterator over inputs of this class, as `receive_input` does."""
        return receive_input(
            cls, timeout, poll_interval, raise_timeout_error, exclude_keys, key_prefix, flow_run_id=flow_run_id
        )


class AutomaticRunInput(RunInput, Generic[T]):
    """An input that is no `RunInput`, with what is known of it."""

    value: T


def send_input(
    run_input: Any, flow_run_id: UUID | str, sender: str | None = None, key_prefix: str | None = None
) -> Any:
    """Send a `RunInput`, or any value that can be pickled, to a flow run; it is durable when this returns.

    To be awaited in async code: the body of an `async def` flow or task, or what an event loop runs outside of runs. The run need not
    receive yet. Inputs are received by the name of their class, or by `key_prefix`, where that is given here and there. `sender` is by
    default the flow run that this is called in.

    Raises `ObjectNotFound` for a run that is not there, `NotReceiving` for one that has ended, `SerializationError` for a value that
    can't be pickled, `ValueError` for one larger than the setting `max_parameter_bytes`.
    """
    value = run_input.value if isinstance(run_input, AutomaticRunInput) else run_input
    return sending.send(value, flow_run_id, sender, key_prefix)


@overload
def receive_input(  # type: ignore[overload-overlap]  # a RunInput has its metadata, and is wrapped in nothing
    input_type: type[R],
    timeout: float | None = 3600,
    poll_interval: float = 10,
    raise_timeout_error: bool = False,
    exclude_keys: Collection[str] | None = None,
    key_prefix: str | None = None,
    flow_run_id: UUID | str | None = None,
    with_metadata: bool = False,
) -> InputReceiver[R]: ...
@overload
def receive_input(
    input_type: type[T],
    timeout: float | None = 3600,
    poll_interval: float = 10,
    raise_timeout_error: bool = False,
    exclude_keys: Collection[str] | None = None,
    key_prefix: str | None = None,
    flow_run_id: UUID | str | None = None,
    with_metadata: Literal[False] = False,
) -> InputReceiver[T]: ...
@overload
def receive_input(
    input_type: type[T],
    timeout: float | None = 3600,
    poll_interval: float = 10,
    raise_timeout_error: bool = False,
    exclude_keys: Collection[str] | None = None,
    key_prefix: str | None = None,
    flow_run_id: UUID | str | None = None,
    *,
    with_metadata: Literal[True],
) -> InputReceiver[AutomaticRunInput[T]]: ...
@overload
def receive_input(
    input_type: Any,
    timeout: float | None = 3600,
    poll_interval: float = 10,
    raise_timeout_error: bool = False,
    exclude_keys: Collection[str] | None = None,
    key_prefix: str | None = None,
    flow_run_id: UUID | str | None = None,
    with_metadata: bool = False,
) -> InputReceiver[Any]: ...
def receive_input(
    input_type: Any,
    timeout: float | None = 3600,
    poll_interval: float = 10,
    raise_timeout_error: bool = False,
    exclude_keys: Collection[str] | None = None,
    key_prefix: str | None = None,
    flow_run_id: UUID | str | None = None,
    with_metadata: bool = False,
) -> InputReceiver[Any]:
    """Return an iterator over the inputs of a type that are sent to the flow run around, or to the one with `flow_run_id`.

    It gives instances of a `RunInput` or pydantic model, else bare values, each once and in the order of arrival, those first that came
    before. `with_metadata` wraps what is no `RunInput` in an object with `value`, `metadata` and `respond`. Waiting for each takes
    `timeout` seconds at most (None: for ever), then the iteration ends, by `TimeoutError` if `raise_timeout_error`. An input is told at
    once: `poll_interval` is there for programs that come from elsewhere.

    Nothing is taken out of the history: another iterator, and the next attempt of the run, receives from the first again, but for those
    whose keys are in `exclude_keys`. In async code it is iterated by `async for`; `for` raises `BlockingWaitError` there.

    Iterating raises `InvalidInput` for an input that does not fit the type or can't be loaded; the next is the one behind it. This raises
    `TypeError` for a type that names no class, without a `key_prefix`, and `RuntimeError` outside of flow runs, without a `flow_run_id`.
    """
    check_timeout(timeout)
    channels = frozenset({key_prefix}) if key_prefix is not None else channels_of(input_type)
    run = str(flow_run_id if flow_run_id is not None else _run_around())
    wanted = Wanted(run, channels, timeout, raise_timeout_error, frozenset(exclude_keys or ()))
    return InputReceiver(wanted, partial(_received, Form(input_type, holds_any=True), with_metadata))


def _run_around() -> UUID:
    around = FlowRunContext.get()
    if around is None:
        raise RuntimeError("Must either provide a flow run ID or be within a flow run.")
    return around.flow_run.id


def _received(form: Form, with_metadata: bool, row: SentInput, receiver: UUID) -> Any:
    try:
        value = unpacked(Content(row.value, bool(row.is_pickled)), form)
    except InvalidInput as error:
        raise InvalidInput(
            f"The input {row.key!r}, sent by {row.sender or 'somebody'}, can't be received. {error} It stays in the history, and the next "
            "iterator begins with it, unless exclude_keys has it."
        ) from error
    if not isinstance(value, RunInput):
        if not with_metadata:
            return value
        value = AutomaticRunInput.model_construct(value=value)
    value._metadata = RunInputMetadata(key=row.key, sender=row.sender, receiver=receiver)
    return value


def keyset_from_paused_state(state: State) -> dict[str, str]:
    """Return the names of the parts of a paused state's form: description, response, schema."""
    if not state.is_paused():
        raise RuntimeError(f"{state.type.value!r} is unsupported.")
    details = state.state_details
    return keyset_of(details.pause_reschedule, str(details.pause_key))
