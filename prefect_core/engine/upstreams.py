"""What a call waits for: the futures and states among its arguments and in `wait_for`, found when the call is made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from prefect_core import inputs
from prefect_core.context import RunContext, lineage
from prefect_core.futures import PrefectFuture
from prefect_core.parameters import Binder
from prefect_core.references import Reference
from prefect_core.runs import Edge
from prefect_core.states import State
from prefect_core.task_runners import TaskRunner

Promised = dict[PrefectFuture[Any], Reference]
"""Where the values of runs that are under way will lie."""


class HeldInputs:
    """What a call was given by reference: for a `home` that holds values, its runner, and a body that alone sees those."""

    __slots__ = ("after", "home", "promised")

    def __init__(self, home: TaskRunner) -> None:
        self.home = home
        self.promised: Promised = {}
        self.after: list[Reference] = []
        """What is promised and only waited for."""


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

    def afar(self, home: object) -> list[Reference]:
        """Return where values of finished inputs lie that have to be fetched, since they are not held by `home`."""
        states = [one if isinstance(one, State) else one.state for one, _ in self.found]
        return [state.data for state in states if isinstance(state.data, Reference) and state.data.home is not home]

    def resolve(self, home: object = None, promised: Promised | None = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments with the values of finished inputs in their places; references to those that `home` holds, or promised.

        Raises `UpstreamTaskError` for the first that may not go on.
        """

        def value_of(upstream: Any, allowed: bool) -> Any:
            reference = promised.get(upstream) if promised else None
            if reference is None and home is not None:
                data = upstream.data if isinstance(upstream, State) else upstream.state.data
                reference = data if isinstance(data, Reference) and data.home is home else None
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
        states = [one if isinstance(one, State) else one.state for one, _ in self.found]
        data = [state.data for state in states]
        return [one for one in data if isinstance(one, Reference) and one.home is home and one.is_lost]

    def to_await(self, promised: Promised) -> list[Reference]:
        """Return the promised among the inputs that are only waited for."""
        return [promised[upstream] for upstream, _ in self._awaited if upstream in promised]


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
