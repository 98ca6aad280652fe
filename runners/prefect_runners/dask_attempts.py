"""The attempts that a flow run has on a Dask cluster, and what is heard of them.

Replies, and what an attempt tells before, come as events of Dask. They are dealt with on a thread of our own, which also looks at the
client's futures every half second: a reply that was lost with its worker, and the end of a worker or of the scheduler, show there and
nowhere else.
"""

from __future__ import annotations

import pickle
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import distributed

from prefect_core.engine import in_place
from prefect_core.engine.parcels import PlainReply
from prefect_core.engine.transport import Delivery
from prefect_core.errors import describe
from prefect_core.payload import Receipt
from prefect_runners import dask_begun, dask_natives, dask_worker
from prefect_runners.dask_guard import FOLDER, REPLY
from prefect_runners.settling import Settling

if TYPE_CHECKING:
    from prefect_runners.dask_natives import DaskReference

_ASK_SECONDS = 1.0
_ANSWER_SECONDS = 5.0
_MOST_WORKERS = 10
_GONE = "gone"
_REFUSED = "lost dependencies"
_LOST_WITH_WORKER = ("processing-tasks", "lost-computed-tasks", "lost-scattered-tasks")


class Attempt:
    """One payload, and the Dask task that it has become, or has a place in: `native` is the key of that."""

    __slots__ = (
        "asked",
        "delivery",
        "done",
        "future",
        "holder",
        "known_as",
        "reference",
        "runs_on",
        "seen_over",
        "workers_lost",
    )

    def __init__(self, key: str, delivery: Delivery, done: Callable[[Receipt], None], native: str = "") -> None:
        self.delivery = delivery
        self.done = done
        self.workers_lost = 0
        """How many ended that had it and had not begun it."""
        self.be_known_as(key, native)

    @property
    def key(self) -> str:
        return self.known_as[0]

    @property
    def native(self) -> str:
        return self.known_as[1]

    def be_known_as(self, key: str, native: str = "") -> None:
        """Become another Dask task, of which nothing is known yet."""
        self.known_as = key, native or key
        """Its key and its native's. Read both at once: another thread may hand it over again, under other names."""
        self.future: Any = None
        self.reference: DaskReference | None = None
        self.seen_over = 0.0
        self.asked: Any = None
        self.runs_on = ""
        """The worker that runs it on, though Dask has forgotten it."""
        self.holder = ""
        """The worker that has the values of the chunk, if some are large."""


class Attempts:
    """Those that are under way, by their Dask keys, all of which end with `mark`."""

    def __init__(
        self,
        topic: str,
        mark: str,
        reference: Callable[[Attempt], DaskReference],
        hand_over_again: Callable[[list[Attempt]], object],
        on_break: Callable[[str], object],
    ) -> None:
        self._on_break = on_break
        self._hand_over_again = hand_over_again
        self._topic = topic
        self._mark = mark
        self._reference = reference
        self._client: Any = None
        self._place = ""
        self._open: dict[str, Attempt] = {}
        self._let_go: list[Any] = []
        self._settling = Settling("prefect-core-dask-receipts", self._settle_message, self._look)
        self._folders: dict[str, str] = {}
        """Where workers have their files."""
        self.gone: dict[str, str] = {}
        """Workers that have ended, by the keys of what was with them."""
        self.broken: str | None = None
        """Why nothing can be had from the cluster any more."""
        self.is_guarded = False
        self.hand_over_rest: Callable[[str], object] = self._hand_over_left
        """Is told the key of a chunk that has ended with members left."""

    def listen(self, client: Any, place: str) -> None:
        """Begin to hear."""
        self._client, self._place = client, place
        client.subscribe_topic(self._topic, self._hear)
        client.subscribe_topic("all", self._hear_of_cluster)
        self._settling.start()

    def add(self, attempt: Attempt) -> None:
        """Take note of one that is about to be handed to Dask."""
        self._open[attempt.key] = attempt

    def is_open(self, attempt: Attempt) -> bool:
        """Tell whether something is still to be heard of it."""
        return attempt.key in self._open

    def take(self, key: str) -> Attempt | None:
        """Give up one that has not ended: nothing will be heard of it."""
        attempt = self._open.pop(key, None)
        if attempt is not None:
            attempt.delivery.payload.handle = None
        return attempt

    def all_open(self) -> list[Attempt]:
        """Return those that have not ended."""
        return list(self._open.values())

    def left_of(self, native: str) -> list[Attempt]:
        """Return those of a Dask task that have not ended."""
        return [one for one in self.all_open() if one.native == native]

    def close(self) -> list[Attempt]:
        """Hear nothing any more; returns those that are still open."""
        self._settling.close()
        attempts, self._open = list(self._open.values()), {}
        self._let_go.clear()
        return attempts

    def settle(self, attempt: Attempt, receipt: Receipt) -> None:
        """Hand a receipt on, once."""
        if self.take(attempt.key) is not None:
            attempt.done(receipt)

    def _hand_over_left(self, native: str) -> None:
        self._hand_over_again(self.left_of(native))

    # On Dask's event loop.

    def _hear(self, event: Any) -> None:
        self._settling.put(event[1])
        # Cheaper here than where they were done with: no other thread has to be woken.
        self._let_go.clear()

    def _hear_of_cluster(self, event: Any) -> None:
        message = event[1]
        if not isinstance(message, dict) or message.get("action") != "remove-worker":
            return
        keys = [key for what in _LOST_WITH_WORKER for key in message.get(what, ())]
        ours = [key for key in keys if isinstance(key, str) and key.endswith(self._mark)]
        # At once: whoever asks for one of these values is told by the next message that it is lost.
        self.gone.update(dict.fromkeys(ours, str(message["worker"])))
        self._settling.put((_GONE, str(message["worker"]), ours))

    # On our own thread.

    def _settle_message(self, message: Any) -> None:
        kind, key, what = message
        if kind == _GONE:
            self._worker_has_gone(key, what)
        elif kind == FOLDER:
            self._folders[key] = what
        elif kind == REPLY and not isinstance(what, bytes):
            self._settle_chunk(key, pickle.loads(what[0]))
        else:
            self._settle_of_one(kind, key, what)

    def _settle_chunk(self, key: str, replies: list[tuple[int, Any]]) -> None:
        holder = ""
        for place, reply in replies:
            attempt = self._open.get(dask_worker.place_in(key, place))
            if place == dask_worker.HELD:
                holder = reply.decode()
            elif place == in_place.CUT:
                self.hand_over_rest(key)
            elif attempt is not None:
                attempt.holder = holder
                self._settle_reply(attempt, reply)

    def _settle_of_one(self, kind: str, key: str, what: Any) -> None:
        attempt = self._open.get(key)
        if attempt is None:
            # It was given up, or Dask has run it once more where no guard could prevent that.
            return
        if kind in {REPLY, in_place.ENDED}:
            self._settle_reply(attempt, what)
        elif kind == in_place.BEGUN:
            attempt.delivery.begun(what)
        else:
            attempt.delivery.happened(what)

    def _settle_reply(self, attempt: Attempt, reply: bytes | PlainReply) -> None:
        receipt = attempt.delivery.receipt(reply, partial(self._reference, attempt))
        self._let_go.append(attempt.future)
        attempt.future = None
        self.settle(attempt, receipt)

    def _worker_has_gone(self, worker: str, keys: list[str]) -> None:
        if not self.is_guarded:
            self._give_up(keys)
        else:
            self._save_unbegun(worker, set(keys))
        self._settling.look_soon()

    def _save_unbegun(self, worker: str, keys: set[str]) -> None:
        """Hand over again what was with a worker that has ended, and had certainly not begun there."""
        waiting = [one for one in list(self._open.values()) if one.native in keys and not one.delivery.started_us]
        folders = self._folders.copy()
        self._folders.pop(worker, None)
        begun = dask_begun.among([one.key for one in waiting], worker, folders, self._client) if waiting else None
        if begun is None:
            return
        has_begun = set(begun)
        unbegun = [one for one in waiting if one.key not in has_begun]
        for one in unbegun:
            one.workers_lost += 1
            if one.workers_lost > _MOST_WORKERS:
                # What ends its worker when it is loaded must not end them all.
                reason = f"Dask worker {worker} ended while it had this task, like {_MOST_WORKERS} before, none of which had begun it."
                self.settle(one, one.delivery.lost(reason, worker, began=False))
        self._hand_over_again(unbegun)

    def _give_up(self, keys: list[str]) -> None:
        """Keep Dask from running again what was with a worker that has ended."""
        futures = self._client.futures
        self._client.cancel([distributed.Future(key, self._client) for key in keys if key in futures], force=True)
        lost = set(keys)
        for attempt in list(self._open.values()):
            if attempt.native in lost:
                self.settle(attempt, self._receipt_of_lost(attempt, "cancelled"))

    def _look(self) -> None:
        """Find the attempts that nothing will be heard of any more."""
        if self._let_go:
            self._client.loop.add_callback(self._let_go.clear)
        if self._client.status != "running":
            self.broken = (
                f"The connection to the Dask scheduler at {self._place} was lost: it has ended, or can't be reached."
            )
            self._on_break(self.broken)
            for attempt in list(self._open.values()):
                self.settle(attempt, attempt.delivery.lost(self.broken, "", began=True))
            return
        # A future of another key is of a task that it was before.
        handed_over = [one for one in self.all_open() if one.future is not None and one.future.key == one.native]
        futures = self._client.futures.copy()
        over = {key: state.status for key, state in futures.items() if state.status != "pending"}
        # A client that has lost its connection for a moment forgets all.
        over |= {attempt.native: "cancelled" for attempt in handed_over if attempt.native not in futures}
        if not self._settling.is_empty():
            # What was put before these were over is dealt with first.
            self._settling.look_soon()
            return
        refused, unmade = [], []
        for attempt in handed_over:
            status = over.get(attempt.native)
            if status is None or attempt.future is None:
                continue
            if _was_refused(futures.get(attempt.native)):
                refused.append(attempt)
            elif status != "finished" and self._lacks_input(attempt):
                unmade.append(attempt)
            else:
                self._end(attempt, status)
        self._hand_over_again(refused)
        self._try_again_later(unmade)

    def _end(self, attempt: Attempt, status: str) -> None:
        if status == "finished":
            self._ask(attempt)
        elif not self._is_soon_explained(attempt, status):
            self.settle(attempt, self._receipt_of_lost(attempt, status))

    def _is_soon_explained(self, attempt: Attempt, status: str) -> bool:
        """Tell whether the end of the worker that had it, of which the client heard first through this, is about to be told."""
        if status != "error" or attempt.native in self.gone:
            return False
        attempt.seen_over = attempt.seen_over or time.monotonic()
        is_killed = isinstance(attempt.future.exception(timeout=_ANSWER_SECONDS), distributed.KilledWorker)
        return is_killed and time.monotonic() - attempt.seen_over < _ASK_SECONDS

    def _lacks_input(self, attempt: Attempt) -> bool:
        return attempt.native not in self.gone and attempt.delivery.note_lost(dask_natives.is_lost)

    def _try_again_later(self, unmade: list[Attempt]) -> None:
        """Have those made when their inputs are there again of which one is lost.

        But what has begun on a worker that has a copy goes on there, though Dask has forgotten it, and tells its end by itself.
        """
        begun = self._keep_from_beginning([one for one in unmade if not one.runs_on])
        for attempt in unmade:
            if not attempt.runs_on and begun is not None:
                attempt.runs_on = begun.get(attempt.key, "")
                if not attempt.runs_on:
                    self.settle(attempt, attempt.delivery.unready())
            if attempt.runs_on and attempt.runs_on not in self._folders:
                self.settle(attempt, _lost_with(attempt.runs_on, attempt))

    def _keep_from_beginning(self, attempts: list[Attempt]) -> dict[str, str] | None:
        """Return where those run that have begun, by their keys; None if not all could be asked, which is to be tried again."""
        if not attempts:
            return {}
        ask = partial(self._client.sync, self._client._run, dask_worker.take_back, [one.key for one in attempts])
        try:
            answers = ask(on_error="return", callback_timeout=_ANSWER_SECONDS)
        except Exception:
            return None
        if not all(isinstance(keys, list) for keys in answers.values()):
            return None
        return {key: worker for worker, keys in answers.items() for key in keys}

    def _ask(self, attempt: Attempt) -> None:
        """Fetch the reply of an attempt whose own never came: it was lost with a worker, which still had time to hand on the value."""
        now = time.monotonic()
        if not attempt.seen_over:
            attempt.seen_over = now
        elif attempt.asked is None:
            if now - attempt.seen_over > _ASK_SECONDS:
                key = f"reply-{attempt.key}-asked"
                attempt.asked = self._client.submit(dask_worker.reply_of, attempt.future, key=key, pure=False)
        elif attempt.asked.status == "finished":
            reply = attempt.asked.result(timeout=_ANSWER_SECONDS)
            if not reply:
                # It was taken back where it came to, by somebody who did not hear that of all workers, and so left it open.
                self.hand_over_rest(attempt.native)
            elif attempt.native != attempt.key:
                self._settle_chunk(attempt.native, pickle.loads(reply))
            else:
                self._settle_reply(attempt, reply)
        elif attempt.asked.status != "pending":
            self.settle(attempt, self._receipt_of_lost(attempt, "lost"))

    def _receipt_of_lost(self, attempt: Attempt, status: str) -> Receipt:
        delivery = attempt.delivery
        worker = self.gone.get(attempt.native)
        if worker is not None:
            return _lost_with(worker, attempt)
        began = bool(delivery.started_us)
        if status != "error":
            return delivery.lost("Somebody cancelled this task on the Dask cluster.", "", began=began)
        error = attempt.future.exception(timeout=_ANSWER_SECONDS)
        return delivery.lost(f"Dask could not run this task: {describe(error)}", "", began=began)


def _lost_with(worker: str, attempt: Attempt) -> Receipt:
    reason = (
        f"Dask worker {worker} ended while it had this task: it was killed, or took more memory than its limit "
        "(memory_limit), for which Dask ends it."
    )
    return attempt.delivery.lost(reason, worker, began=True)


def _was_refused(known: Any) -> bool:
    """Tell, by a client's state of a task, whether the scheduler took none of those sent with it, since an input of one is lost."""
    return known is not None and getattr(getattr(known, "exception", None), "reason", None) == _REFUSED
