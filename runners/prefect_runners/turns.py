"""What a thread holds that serves others: it runs code of the user now and then, and must not keep them waiting when that waits."""

from __future__ import annotations

from collections.abc import Callable


class Turn:
    """A thread's time of serving, which ends when it waits for something else (`waiting.Slot`): `go_on` has another thread take over."""

    __slots__ = ("_go_on", "is_over")

    def __init__(self, go_on: Callable[[], object]) -> None:
        self._go_on = go_on
        self.is_over = False

    def give_back(self, is_done: Callable[[], bool]) -> None:
        if not self.is_over:
            self.is_over = True
            self._go_on()

    def take_again(self) -> None:
        """The other thread goes on."""
