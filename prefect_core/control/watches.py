"""What the steward tells: requests to those who watch for them, and that something is there to those who wait for it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from prefect_core.errors import HistoryError, describe
from prefect_core.history.requests import ENDED, OVER
from prefect_core.waiting import Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from prefect_core.control.steward import Steward
    from prefect_core.history import HistoryStore, Recorder
    from prefect_core.history.control import Control
    from prefect_core.history.requests import RequestRow

_log = logging.getLogger("prefect_core.control")


class Delivery:
    """A request that was told to the owner of its run, who answers it once, from any thread, now or later."""

    def __init__(self, watch: Watch, request: RequestRow, control: Control) -> None:
        self._watch = watch
        self._control = control
        self.request = request
        self.kind = request.kind
        self.detail: dict[str, Any] = request.detail

    def is_awaited(self) -> bool:
        """Tell whether there is no answer yet: who asked may have withdrawn the request. Raises `HistoryError`."""
        row = self._control.request(self.request.key)
        return row is not None and row.answered_us is None

    def answer(self, answer: Mapping[str, Any]) -> bool:
        """Record the answer, a JSON object; durable when this returns. False if there is one already. Raises `HistoryError`."""
        is_first = self._control.answer(self.request.key, answer)
        self._watch.open.pop(self.request.key, None)
        return is_first


class Watch:
    """That somebody wants to hear what is asked of a run."""

    def __init__(
        self,
        steward: Steward,
        recorder: Recorder,
        run: int,
        deliver: Callable[[Delivery], object],
        is_needed: Callable[[], bool],
    ) -> None:
        self.is_needed = is_needed
        self.is_asleep = False
        """Whether nobody looks for it, until it is woken."""
        self.stored: Callable[[], HistoryStore] = recorder.stored
        self.has_unanswered: Callable[[], bool] = recorder.has_unanswered
        self.run = run
        self._process = recorder.process
        self.open: dict[int, Delivery] = {}
        """Told, and yet to be answered."""
        self._steward = steward
        self._deliver = deliver
        self._told: set[int] = set()

    def tell(self, request: RequestRow, control: Control) -> None:
        """Tell of a request, unless that was done before."""
        if request.key in self._told:
            return
        lease = control.lease(self._process)
        if lease is not None and lease.taken_by is not None:
            # What was asked before that is answered; what was asked since is for whoever has the run now.
            return
        self._told.add(request.key)
        delivery = self.open[request.key] = Delivery(self, request, control)
        try:
            self._deliver(delivery)
        except Exception as error:
            _log.exception("A request of kind %r could not be heard.", request.kind)
            delivery.answer({"error": describe(error)})

    def wake(self) -> None:
        """Have it looked for again, if it was let sleep: by what needs it, once that can be found."""
        if self.is_asleep:
            self._steward.begin_watch(self)

    def close(self) -> None:
        """Hear nothing more; requests that are not answered yet are, by saying that the run has ended. Closing twice does nothing."""
        if not self._steward.forget(self):
            # Nor is it for a child made by `fork` to answer what its parent was asked.
            return
        for delivery in list(self.open.values()):
            try:
                delivery.answer({OVER: ENDED})
            except HistoryError:
                _log.debug("A request was left without an answer.", exc_info=True)


class Expectation(Signal):
    """Fires when something is in a history that somebody waits for, or when the time for that is up."""

    __slots__ = ("_steward", "control", "is_met", "until")

    is_hurried = True

    def __init__(self, steward: Steward, control: Control, is_met: Callable[[], bool], until: float | None) -> None:
        super().__init__()
        self.control = control
        self.is_met = is_met
        self.until = until
        """The moment, on the monotonic scale of `time`, at which it fires in any case."""
        self._steward = steward

    def __repr__(self) -> str:
        return "what somebody else writes to the history"

    def close(self) -> None:
        """Look at that history no more: when this returns, nobody does. Closing twice does nothing."""
        self._steward.give_up(self)
