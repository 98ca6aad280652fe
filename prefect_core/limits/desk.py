"""The desk: where code of this process asks for slots and gives them back, without a thread of its own for that.

Requests and their ends are put on the desk from any thread and return at once. One thread, the *clerk*, takes all that lies there to the
history, in order and in one transaction, and tells those who have got their slots; many that come at once so cost one commit. While
somebody waits, the clerk glances at the history: other processes give out slots to those who wait here. More rarely it has a good look,
for processes that have ended without a word.
"""

from __future__ import annotations

import atexit
import logging
import os
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from weakref import WeakValueDictionary

from prefect_core import clock, history
from prefect_core.errors import HistoryError
from prefect_core.history.limits import Answer, Asked, LimitTable
from prefect_core.history.process import is_gone
from prefect_core.locking.renewing import Renewer
from prefect_core.waiting import Signal, block_until_done

GLANCE_SECONDS = 0.02
"""How often the clerk finds out whether something has changed, while somebody waits."""
LOOK_SECONDS = 0.2
"""How often it finds out who is gone."""
_LEAST_SECONDS = 0.001
_LINGER_SECONDS = 1.0
_LEAVE_SECONDS = 5.0
log = logging.getLogger("prefect_core.concurrency")


class Ticket(Signal):
    """A request on its way; fires when it is decided: it has its slots, won't get them, or was ended. `lost` fires if it loses them."""

    __slots__ = ("answer", "asked", "error", "is_ended", "key", "loop", "lost", "until")

    is_hurried = True

    def __init__(
        self, asked: Asked, until: float | None = None, loop: Callable[[], object | None] | None = None
    ) -> None:
        super().__init__()
        self.asked = asked
        self.until = until
        """The monotonic moment at which it gives up."""
        self.loop = loop
        """Tells the event loop without which its holder can't go on."""
        self.key: int | None = None
        self.answer: Answer | None = None
        self.error: HistoryError | None = None
        self.is_ended = False
        self.lost = Signal()

    @property
    def is_granted(self) -> bool:
        """Whether it has its slots; it has none any more that were given to it as its time ran out."""
        return not self.is_ended and self.answer is not None and self.answer.is_granted

    def __repr__(self) -> str:
        return f"a slot of {', '.join(map(repr, self.asked.names))}"

    def loop_needed(self) -> object | None:
        return _loop_that_has(self.asked)


class Mark(Signal):
    """Fires when all that was put on the desk before it has been written."""

    __slots__ = ()


class Desk:
    """The requests of this process to the limits of one history."""

    def __init__(self, table: LimitTable, process: int) -> None:
        self.table = table
        self._process = process
        self._pid = os.getpid()
        self._incoming: deque[Ticket | Mark] = deque()
        self._waiting: dict[int, Ticket] = {}
        self._timed: dict[int, Ticket] = {}
        """Those of them whose time will be up."""
        self.held: dict[int, Ticket] = {}
        self._lock = threading.Lock()
        self._bell = threading.Event()
        self._clerk: threading.Thread | None = None
        self._due: float | None = None
        self._version = 0
        self._owed: list[int] = []
        """Requests that are to be ended."""
        self._renewer = Renewer(self._renew, "prefect-core-limits")

    def ask(self, ticket: Ticket) -> None:
        """Ask for the slots of a ticket, which fires when that is decided. Whoever asks has it by then, so that no interrupt loses it."""
        self._put(ticket)

    def end(self, ticket: Ticket) -> None:
        """Give the slots of a ticket back, or wait no longer for them; again is harmless."""
        if self._pid != os.getpid():
            # They are the parent's, and so is this desk.
            return
        with self._lock:
            if ticket.is_ended:
                return
            ticket.is_ended = True
        self._put(ticket)
        ticket.fire()

    @property
    def has_clerk(self) -> bool:
        """Whether a thread is at work for the desk."""
        clerk = self._clerk
        return clerk is not None and clerk.is_alive()

    def flush(self, timeout: float | None = None) -> bool:
        """Block until all that was asked and ended before is written; False if it was not within `timeout` seconds."""
        mark = Mark()
        self._put(mark)
        return block_until_done([mark], timeout)

    def _put(self, what: Ticket | Mark) -> None:
        with self._lock:
            self._incoming.append(what)
            self._bell.set()
            if self._clerk is None or not self._clerk.is_alive():
                self._clerk = threading.Thread(target=self._serve, name="prefect-core-slots", daemon=True)
                self._clerk.start()

    # The clerk's.

    def _serve(self) -> None:
        last_look = clock.current().monotonic()
        while self._await_work():
            self._take_in()
            now = clock.current().monotonic()
            self._give_up(now)
            if self._waiting and (now - last_look >= LOOK_SECONDS or (self._due is not None and now >= self._due)):
                last_look = now
                self._guarded(self._look)
            elif self._waiting:
                self._guarded(self._glance)

    def _await_work(self) -> bool:
        """Wait until there may be something to do; False, and the clerk is gone, if nobody wants anything any more."""
        if not self._incoming:
            pause = _LINGER_SECONDS
            if self._waiting:
                now = clock.current().monotonic()
                moments = [one.until for one in self._timed.values() if one.until is not None]
                moments += [self._due] if self._due is not None else []
                pause = min([GLANCE_SECONDS, *(max(moment - now, _LEAST_SECONDS) for moment in moments)])
            if not self._bell.wait(pause) and not self._waiting:
                with self._lock:
                    if not self._incoming:
                        self._clerk = None
                        return False
        self._bell.clear()
        return True

    def _take_in(self) -> None:
        batch = [self._incoming.popleft() for _ in range(len(self._incoming))]
        if not batch:
            return
        tickets = [one for one in batch if not isinstance(one, Mark)]
        for ended in [one for one in tickets if one.is_ended and one.key is not None]:
            assert ended.key is not None
            self._waiting.pop(ended.key, None)
            self.held.pop(ended.key, None)
            self._owed.append(ended.key)
            ended.key = None
        asking = [one for one in tickets if not one.is_ended]
        if asking or self._owed:
            self._guarded(lambda: self._exchange(asking), asking)
        for one in batch:
            if isinstance(one, Mark):
                one.fire()

    def _exchange(self, asking: list[Ticket]) -> None:
        wishes: list[Asked | int] = [*self._owed, *(ticket.asked for ticket in asking)]
        answers, granted, due_us = self.table.exchange(self._process, wishes)
        self._owed.clear()
        for ticket, answer in zip(asking, answers, strict=True):
            ticket.key = answer.key
            if answer.key is not None and not answer.is_granted:
                ticket.answer = answer
                self._waiting[answer.key] = ticket
                if ticket.until is not None:
                    self._timed[answer.key] = ticket
                self._renew_often_enough(ticket)
            else:
                self._decide(ticket, answer)
        for key in granted:
            self._grant(key)
        self._expect(due_us)

    def _glance(self) -> None:
        version = self.table.version()
        if version != self._version:
            self._version = version
            for key in self.table.held(self._process) & self._waiting.keys():
                self._grant(key)

    def _look(self) -> None:
        held, waiting, due_us = self.table.look(self._process, is_gone)
        self._due = None
        self._expect(due_us)
        for key in held & self._waiting.keys():
            self._grant(key)
        for key in self._waiting.keys() - waiting:
            # It can't be served as it was asked, or was given up for dead: asked once more, it gets its answer.
            ticket = self._waiting.pop(key)
            ticket.key = None
            self._put(ticket)
        strays = (held | waiting) - self._waiting.keys() - self.held.keys()
        if strays:
            # Of a commit that failed, as it seemed.
            self.table.exchange(self._process, sorted(strays))

    def _grant(self, key: int) -> None:
        ticket = self._waiting.pop(key, None)
        if ticket is not None and ticket.answer is not None:
            self._decide(ticket, ticket.answer._replace(is_granted=True))

    def _decide(self, ticket: Ticket, answer: Answer) -> None:
        ticket.answer = answer
        if answer.is_granted and ticket.key is not None:
            self.held[ticket.key] = ticket
            self._renew_often_enough(ticket)
        ticket.fire()

    def _give_up(self, now: float) -> None:
        """Let go of tickets whose time is up."""
        for key, ticket in list(self._timed.items()):
            if key not in self._waiting:
                del self._timed[key]
            elif ticket.until is not None and ticket.until <= now:
                self.end(ticket)

    def _expect(self, due_us: int | None) -> None:
        if due_us is not None:
            due = clock.current().monotonic() + max(0.0, (due_us - clock.now_us()) / 1_000_000)
            self._due = due if self._due is None else min(self._due, due)

    def _guarded(self, work: Callable[[], object], asking: list[Ticket] | None = None) -> None:
        """Let work at a history that can't be used end the requests, not the clerk."""
        try:
            work()
        except Exception as error:
            failure = error if isinstance(error, HistoryError) else HistoryError(f"{type(error).__name__}: {error}")
            failure.__cause__ = error if failure is not error else error.__cause__
            for ticket in [*(asking or []), *self._waiting.values()]:
                ticket.error = failure
                ticket.fire()
            self._waiting.clear()

    # The renewer's.

    def _renew_often_enough(self, ticket: Ticket) -> None:
        self._renewer.begin(min(ticket.asked.lease_us / 4_000_000, 15.0))

    def _renew(self) -> int:
        held = dict(self.held)
        alive = self.table.renew(self._process)
        for key in held.keys() - alive:
            ticket = self.held.pop(key, None)
            if ticket is not None and not ticket.is_ended:
                ticket.lost.fire()
        return len(self.held) + len(self._waiting)


_here: tuple[LimitTable, Desk] | None = None
_desks: WeakValueDictionary[LimitTable, Desk] = WeakValueDictionary()
"""One for each history, while somebody has slots of it or wants some."""
_opening = threading.Lock()


def desk() -> Desk:
    """Return the desk of this process at the history that it records into. Raises `HistoryError`."""
    global _here
    table, process = history.current().limits()
    here = _here
    if here is None or here[0] is not table:
        with _opening:
            if _here is None:
                atexit.register(_leave)
            if _here is None or _here[0] is not table:
                found = _desks.get(table)
                if found is None:
                    found = _desks[table] = Desk(table, process)
                _here = (table, found)
            here = _here
    return here[1]


def _leave() -> None:
    """Write what was given back last; what is not is free all the same when this process is gone."""
    # Without a clerk nothing is left to be written, and at this point newer Pythons start none.
    if _here is not None and _here[1].has_clerk:
        with suppress(RuntimeError):
            _here[1].flush(_LEAVE_SECONDS)


def _loop_that_has(asked: Asked) -> object | None:
    """Return the event loop that somebody needs who holds a limit whole; while it is blocked, nobody else gets slots."""
    here = _here
    if here is None:
        return None
    for name in asked.names:
        held = [ticket for ticket in list(here[1].held.values()) if name in ticket.asked.names]
        loops: dict[object, int] = {}
        for ticket in held:
            loop = ticket.loop() if ticket.loop is not None else None
            if loop is not None:
                loops[loop] = loops.get(loop, 0) + ticket.asked.occupy
        if not loops or any(ticket.asked.owner in asked.around for ticket in held):
            continue
        slots = {row.name: row.slots for row in here[1].table.limits()}.get(name, 0)
        for loop, occupied in loops.items():
            if occupied + asked.occupy > slots:
                return loop
    return None


def _begin_anew() -> None:
    global _here, _opening
    _here, _opening = None, threading.Lock()
    _desks.clear()


os.register_at_fork(after_in_child=_begin_anew)
