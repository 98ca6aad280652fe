"""Taking back from a Dask cluster what has not begun there: whole tasks, and members of chunks."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection
from functools import partial
from typing import Any

from prefect_core.engine import timers
from prefect_core.payload import Payload
from prefect_runners import dask_worker
from prefect_runners.dask_attempts import Attempt, Attempts

_WITHHELD_SECONDS = 0.05


class TakingBack:
    """Asks the workers what has begun, which keep the rest from doing so.

    A chunk that has begun goes on without the members that were taken back. One that has not is taken back as a whole, since a worker that
    comes later would know nothing of single members; what nobody else takes back of it in the next moment is handed over again.
    """

    def __init__(
        self,
        attempts: Attempts,
        set_aside: Callable[[list[Attempt]], list[list[Attempt]]],
        hand_over_again: Callable[[list[Attempt]], object],
    ) -> None:
        self._attempts = attempts
        self._set_aside = set_aside
        self._hand_over_again = hand_over_again
        self._lock = threading.Lock()
        self._withheld: set[str] = set()

    def cancel(self, client: Any, payloads: Collection[Payload]) -> list[bool]:
        """Keep attempts that have not begun from running; tells for each whether that is certain."""
        handles = [payload.handle for payload in payloads]
        with self._lock:
            groups: dict[str, list[Attempt]] = defaultdict(list)
            taken: set[int] = set()
            for one in handles:
                if not isinstance(one, Attempt):
                    continue
                if one.native not in self._withheld:
                    groups[one.native].append(one)
                elif self._attempts.take(one.key) is not None:
                    taken.add(id(one))
            if groups and self._attempts.broken is None:
                taken |= self._ask(client, groups)
        return [id(one) in taken for one in handles]

    def _ask(self, client: Any, groups: dict[str, list[Attempt]]) -> set[int]:
        # As they are known now: what is handed over again in the meantime is not what is asked about.
        asked = {one.key: one for group in groups.values() for one in group}
        members = {
            native: [dask_worker.chunk_and_place(one.key)[1] for one in group]
            for native, group in groups.items()
            if group[0].key != native
        }
        try:
            answers = client.run(dask_worker.take_back, list(groups), members, on_error="return")
        except Exception:
            # Nobody knows what has begun.
            return set()
        if not all(isinstance(begun, list) for begun in answers.values()):
            return set()
        begun = {key for answer in answers.values() for key in answer}
        whole = {native: group for native, group in groups.items() if native not in begun}
        unbegun = [key for key, one in asked.items() if one.native in whole or key not in begun]
        taken = [asked[key] for key in unbegun if self._attempts.take(key) is not None]
        futures = [group[0].future for native, group in whole.items() if group[0].native == native]
        self._withhold(whole.keys() & members)
        client.cancel([future for future in futures if future is not None])
        return {id(one) for one in taken}

    def _withhold(self, chunks: Collection[str]) -> None:
        """Have the rest of chunks wait for what else is taken back of them."""
        left = [one for one in self._attempts.all_open() if one.native in chunks] if chunks else []
        # Under other names, of which what is cancelled now, or on its way to Dask, says nothing.
        withheld = {group[0].native for group in self._set_aside(left)}
        if withheld:
            self._withheld |= withheld
            timers.after(_WITHHELD_SECONDS, partial(self._go_on, withheld))

    def _go_on(self, withheld: set[str]) -> None:
        with self._lock:
            self._withheld -= withheld
        self._hand_over_again([one for one in self._attempts.all_open() if one.native in withheld])
