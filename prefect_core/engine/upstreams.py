"""What a call waits for: the futures and states among its arguments and in `wait_for`, found when the call is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from prefect_core import inputs
from prefect_core.context import RunContext, lineage
from prefect_core.engine.links import Link
from prefect_core.futures import PrefectFuture
from prefect_core.parameters import Binder
from prefect_core.payload import PLAIN
from prefect_core.references import Reference, StoredInput
from prefect_core.results.kept import KeptValue
from prefect_core.runs import Edge
from prefect_core.states import State
from prefect_core.stored import Stored
from prefect_core.task_runners import TaskRunner, resolve_runner

if TYPE_CHECKING:
    from prefect_core.engine.bundles import Bundle

Promised = dict[PrefectFuture[Any], Reference | Link]
"""Where the values of runs that are under way will lie, or links to those that go with the call in one chunk."""


def bundle_of(promised: Promised) -> Bundle | None:
    """Return what gathers the inputs, if they were given as links."""
    return next((one.bundle for one in promised.values() if isinstance(one, Link)), None)


_LEAST_BY_PLACE = 1 << 20
"""Bytes of a stored value that the flow's process has, and that a cluster's worker had better load itself."""


class HeldInputs:
    """What a call was given by reference, for a body in another process that alone sees the values.

    `home` is its runner where that holds values, and has been started.
    """

    __slots__ = ("after", "has_natives", "home", "is_cluster", "promised")

    def __init__(self, runner: TaskRunner | None, *, is_cluster: bool) -> None:
        self.home = runner if is_cluster else None
        self.is_cluster = is_cluster
        self.has_natives = False
        """Whether there are references among the arguments that only the runner itself can hand on."""
        self.promised: Promised = {}
        self.after: list[Reference] = []
        """What is promised and only waited for."""

    def reference_in(self, state: State, *, by_place: bool) -> Stored | None:
        """Return what stands for the value of an ended input; None if the value itself does."""
        data, kept = state.data, state.kept
        if isinstance(data, Reference):
            is_native = data.is_had_by(self.home)
            self.has_natives = self.has_natives or is_native
            return data if is_native or (by_place and data.url is not None) else None
        if not by_place or not isinstance(kept, KeptValue) or kept.url is None or kept.is_held:
            return None
        if data is kept:
            return StoredInput(kept)
        return StoredInput(kept, (data,)) if self.is_cluster and kept.size >= _LEAST_BY_PLACE else None


def held_inputs(runner: TaskRunner | None, spec: Any) -> HeldInputs | None:
    """Return a place for inputs by reference, where tasks run in other processes; `spec` says where, if the runner is not there yet."""
    if runner is not None:
        return None if runner.shares_memory else HeldInputs(runner, is_cluster=runner.holds_values)
    try:
        runner = resolve_runner(spec)
    except Exception:
        # That is said when it is to be started.
        return None
    return None if runner.shares_memory else HeldInputs(None, is_cluster=runner.holds_values)


class Upstreams:
    """The inputs of one call. There may be none, where arguments hold annotations that have to be unwrapped."""

    __slots__ = ("_args", "_awaited", "_kwargs", "edges", "found")

    def __init__(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], parameters: Mapping[str, Any], wait_for: Any
    ) -> None:
        """Walk each parameter, to know its inputs by its name, and each argument, to pin what is in it now."""
        self.found: list[tuple[Any, bool]] = []
        edges: list[Edge] = []
        for name, value in parameters.items():
            self._walk(name, value, edges)
        passed = len(self.found)
        if wait_for is not None:
            self._walk("wait_for", wait_for, edges)
        self._awaited = self.found[passed:]
        self.edges = tuple(edges)
        pin = inputs.pin
        self._args = tuple([pin(value) for value in args])
        self._kwargs = {name: pin(value) for name, value in kwargs.items()} if kwargs else kwargs

    def _walk(self, name: str, value: Any, edges: list[Edge]) -> None:
        found = inputs.find(value)
        for upstream, _ in found:
            uid = upstream.task_run.uid if isinstance(upstream, PrefectFuture) else upstream.task_uid
            if uid:
                edges.append((name, "task_run", uid))
        self.found += found

    def pinned(self, binder: Binder) -> dict[str, Any]:
        """Return the parameters with the futures and states in them pinned."""
        return binder.bind(self._args, self._kwargs)

    def still_open(self) -> list[PrefectFuture[Any]]:
        """Return the futures that are still under way."""
        return [one for one, _ in self.found if isinstance(one, PrefectFuture) and not one.done()]

    def promised(self, home: object) -> Promised | None:
        """Return where the values of the inputs that are under way will lie; None if `home`, a runner, can't tell that of each."""
        promised: Promised = {}
        for one, allowed in self.found:
            if isinstance(one, PrefectFuture) and not one.done():
                reference = None if allowed else one.promise(home)
                if reference is None:
                    return None
                promised[one] = reference
        return promised

    @property
    def may_be_linked(self) -> bool:
        """Whether the inputs are plain arguments, whose values are here or to be made: what a link can stand for."""
        arguments = (*self._args, *self._kwargs.values())
        return (
            not self._awaited
            and all(type(one) in PLAIN or (type(one) is inputs.Pinned and not one.allowed) for one in arguments)
            and not any(isinstance(state.data, Stored) for state in self.states())
        )

    def linked(self) -> Promised | None:
        """Return links to the inputs that are under way; None if they are not all being gathered for one chunk at this moment."""
        linked: Promised = {}
        for one in self.still_open():
            bundle = one.gathered_in()
            if bundle is None or bundle_of(linked) not in (None, bundle):
                return None
            linked[one] = Link(one, bundle)
        return linked

    def states(self) -> list[State]:
        """Return the states of the inputs as they are now."""
        return [one if isinstance(one, State) else one.state for one, _ in self.found]

    def afar(self, home: object, *, by_place: bool = False) -> list[Reference]:
        """Return where values of finished inputs lie that have to be fetched: not held by `home`, nor to be loaded `by_place`."""
        references = [state.data for state in self.states() if isinstance(state.data, Reference)]
        return [one for one in references if not one.is_had_by(home) and not (by_place and one.url is not None)]

    def resolve(
        self, held: HeldInputs | None = None, promised: Promised | None = None, *, by_place: bool = False
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with the values of finished inputs in their places; references to those that are held, or promised.

        With `by_place`, stored values are named by their places, where that saves them the way through this process. Raises
        `UpstreamTaskError` for the first that may not go on.
        """

        def value_of(upstream: Any, allowed: bool) -> Any:
            reference: Stored | None = promised.get(upstream) if promised else None
            if reference is None and held is not None:
                state = upstream if isinstance(upstream, State) else upstream.state
                reference = held.reference_in(state, by_place=by_place)
            return inputs.value_of(upstream, allowed) if reference is None else reference

        for upstream, allowed in self._awaited:
            value_of(upstream, allowed)
        return self.with_each(value_of)

    def with_each(self, value_of: Callable[[Any, bool], Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with what `value_of` gives for each input, and whether its failure is allowed, in its place."""
        unpin = inputs.unpin
        return tuple([unpin(value, value_of) for value in self._args]), {
            name: unpin(value, value_of) for name, value in self._kwargs.items()
        }

    def lost(self, home: object) -> list[Reference]:
        """Return those of the finished inputs that `home` held, and has lost."""
        data = [state.data for state in self.states()]
        return [one for one in data if isinstance(one, Reference) and one.is_had_by(home) and one.is_lost]

    def to_await(self, promised: Promised) -> list[Reference]:
        """Return the promised among the inputs that are only waited for."""
        awaited = [promised.get(upstream) for upstream, _ in self._awaited if isinstance(upstream, PrefectFuture)]
        return [one for one in awaited if isinstance(one, Reference)]


def of_call(
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    parameters: Mapping[str, Any],
    wait_for: Any,
    parent: RunContext | None,
    name: str,
) -> Upstreams | None:
    """Return what a call waits for, or None where its arguments can be handed on as they are.

    Raises `ValueError` if one is a run that this call is made in: each would wait for the other for ever.
    """
    if wait_for is None and inputs.are_plain(args, kwargs):
        return None
    upstreams = Upstreams(args, kwargs, parameters, wait_for)
    ancestors = set(lineage(parent))
    for upstream, _ in upstreams.found:
        if isinstance(upstream, PrefectFuture) and upstream.task_run.uid in ancestors and not upstream.done():
            raise ValueError(
                f"Discovered a task depending on itself. Raising to avoid a deadlock. {name!r} was given the future of "
                f"{upstream.name!r}, which it is called in; pass the value instead."
            )
    return upstreams
