"""Taking back from a Dask cluster what has not begun there: whole tasks, and members of chunks."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
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
    comes later would know nothing of single members; what nobody else takes back of it in the next moment is handed over again. One may end
    before all workers have answered, and what is left of it then is handed over again behind that.
    """

    def __init__(
        self,
        attempts: Attempts,
        set_aside: Callable[[list[Attempt]], list[tuple[str, bool, list[Attempt]]]],
        hand_over_again: Callable[[list[Attempt]], object],
    ) -> None:
        self._attempts = attempts
        self._set_aside = set_aside
        self._hand_over_again = hand_over_again
        self._lock = threading.Lock()
        self._withheld: set[str] = set()
        self._noting = threading.Lock()
        self._asked: set[str] = set()
        """Keys of what workers are asked about just now."""
        self._ended: list[str] = []
        """Those of what ended meanwhile, with members left."""
        attempts.hand_over_rest = self.hand_over_rest

    def cancel(self, client: Any, payloads: Collection[Payload]) -> list[bool]:
        """Keep attempts that have not begun from running; tells for each whether that is certain."""
        handles = [payload.handle for payload in payloads]
        taken: set[int] = set()
        # As they are known now: what is handed over again in the meantime is not what is asked about.
        asked: dict[str, tuple[str, Attempt]] = {}
        with self._lock:
            for one in handles:
                if not isinstance(one, Attempt):
                    continue
                key, native = one.known_as
                if native not in self._withheld:
                    asked[key] = native, one
                elif self._attempts.take(key) is not None:
                    taken.add(id(one))
            if asked and self._attempts.broken is None:
                with self._asking({native for native, _ in asked.values()}):
                    taken |= self._ask(client, asked)
        return [id(one) in taken for one in handles]

    def hand_over_rest(self, native: str) -> None:
        """Hand over again what is left of a task that has ended, once it is known what of that was given back."""
        with self._noting:
            if native in self._asked:
                self._ended.append(native)
                return
        self._hand_over_again(self._attempts.left_of(native))

    @contextmanager
    def _asking(self, natives: set[str]) -> Iterator[None]:
        with self._noting:
            self._asked = natives
        try:
            yield
        finally:
            with self._noting:
                self._asked = set()
                ended, self._ended = self._ended, []
            for native in ended:
                self._hand_over_again(self._attempts.left_of(native))

    def _ask(self, client: Any, asked: dict[str, tuple[str, Attempt]]) -> set[int]:
        members: dict[str, list[int]] = defaultdict(list)
        for key, (native, _) in asked.items():
            if key != native:
                members[native].append(dask_worker.chunk_and_place(key)[1])
        natives = {native for native, _ in asked.values()}
        try:
            answers = client.run(dask_worker.take_back, list(natives), dict(members), on_error="return")
        except Exception:
            # Nobody knows what has begun.
            return set()
        if not all(isinstance(begun, list) for begun in answers.values()):
            return set()
        begun = {key for answer in answers.values() for key in answer}
        whole = natives - begun
        unbegun = [key for key, (native, _) in asked.items() if native in whole or key not in begun]
        taken = [asked[key][1] for key in unbegun if self._attempts.take(key) is not None]
        futures = [one.future for native, one in asked.values() if native in whole]
        self._withhold(whole & members.keys())
        client.cancel(list({one.key: one for one in futures if one is not None and one.key in whole}.values()))
        return {id(one) for one in taken}

    def _withhold(self, chunks: Collection[str]) -> None:
        """Have the rest of chunks wait for what else is taken back of them."""
        left = [one for one in self._attempts.all_open() if one.native in chunks] if chunks else []
        # Under other names, of which what is cancelled now, or on its way to Dask, says nothing.
        withheld = {native for native, _, _ in self._set_aside(left)}
        if withheld:
            self._withheld |= withheld
            timers.after(_WITHHELD_SECONDS, partial(self._go_on, withheld))

    def _go_on(self, withheld: set[str]) -> None:
        with self._lock:
            self._withheld -= withheld
        self._hand_over_again([one for one in self._attempts.all_open() if one.native in withheld])
