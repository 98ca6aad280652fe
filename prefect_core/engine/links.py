"""Links: inputs that are made just before, in the same chunk.

Each task of a chain has to wait for the one before it, so that none of them costs less on its way than its own native task does. Where
the bodies are quick, the calls of a chain are gathered in one chunk instead, and the far end hands values on itself. A call whose input
is not made there after all (it failed, was taken back, or the chunk was cut) is unready, and is handed over again when all its inputs
have ended.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from prefect_core import references
from prefect_core.engine.parcels import Parcel
from prefect_core.errors import InputNotMade
from prefect_core.futures import PrefectFuture
from prefect_core.stored import Stored

if TYPE_CHECKING:
    from prefect_core.engine.bundles import Bundle
    from prefect_core.engine.transport import Delivery
    from prefect_core.runs import Run

_ELSEWHERE = -1


class Link(Stored):
    """Stands in arguments for the value of a run that is gathered in `bundle` for the same chunk."""

    __slots__ = ("bundle", "future")

    def __init__(self, future: PrefectFuture[Any], bundle: Bundle) -> None:
        self.future = future
        self.bundle = bundle

    def load(self) -> Any:
        return self.future.state.result()

    def __reduce__(self) -> tuple[Any, ...]:
        """Return what stands for it in a pickle: the value, once it is here. Raises `InputNotMade` where no chunk is packed."""
        if not self.future.done():
            if not references.takes_links():
                raise InputNotMade(f"{self.future.name!r} is under way.")
            return references.place_of(self)
        state = self.future.state
        if not state.is_completed() or isinstance(state.data, Stored):
            raise InputNotMade(f"The value of {self.future.name!r} is not at hand.")
        return references.at_hand(state.data)


def in_chunk(deliveries: Iterable[Delivery]) -> list[Parcel]:
    """Return the parcels of a chunk in their order, each with the places in it of what its links stand for."""
    deliveries = list(deliveries)
    if not any(delivery.natives for delivery in deliveries):
        return [delivery.parcel for delivery in deliveries]
    places: dict[Run, int] = {}
    parcels = []
    for place, delivery in enumerate(deliveries):
        parcel = delivery.parcel
        if delivery.natives:
            parcel = parcel._replace(links=tuple([_place_of(native, places) for native in delivery.natives]))
        places[delivery.payload.run] = place
        parcels.append(parcel)
    return parcels


def awaited_in(parcels: Iterable[Parcel]) -> set[int]:
    """Return the places that others in a chunk have links to: for `in_place.work_chunk`."""
    return {link for parcel in parcels if parcel.links for link in parcel.links}


def _place_of(native: Any, places: dict[Run, int]) -> int:
    return places.get(native.future.task_run, _ELSEWHERE) if type(native) is Link else _ELSEWHERE
