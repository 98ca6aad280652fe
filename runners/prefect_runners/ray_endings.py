"""What there is to say of an attempt that did not answer, as a receipt."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from prefect_core.engine.links import Link
from prefect_core.engine.transport import Delivery
from prefect_core.errors import SerializationError, describe
from prefect_core.payload import Receipt
from prefect_runners.ray_attempts import Attempt, Attempts, is_late
from prefect_runners.ray_begun import Book
from prefect_runners.ray_objects import Foreign

_NEVER_BEGAN = {"RuntimeEnvSetupError", "TaskUnschedulableError", "TaskPlacementGroupRemoved"}
_LOST_VALUES = {
    "ObjectFetchTimedOutError",
    "ObjectFreedError",
    "ObjectLostError",
    "ObjectReconstructionFailedError",
    "OwnerDiedError",
}


class Ending(Exception, ABC):
    """Stands for the reply of an attempt that is not waited for any longer."""

    @abstractmethod
    def receipt(self, attempt: Attempt) -> Receipt:
        """Make the receipt."""


class Gone(Ending):
    """Ray is gone, or so is its head."""

    def __init__(self, reason: str, begun: Book) -> None:
        super().__init__(reason)
        self._begun = begun

    def receipt(self, attempt: Attempt) -> Receipt:
        worker = attempt.began_on(self._begun, may_ask=False) or ""
        return attempt.delivery.lost(str(self), worker, began=bool(worker or attempt.delivery.started_us))


class TooLate(Ending):
    """The body did not heed its deadline."""

    def receipt(self, attempt: Attempt) -> Receipt:
        delivery = attempt.delivery
        if is_late(delivery):
            return delivery.late("")
        reason = "Its worker process was ended since another task of the same chunk did not heed its deadline."
        return delivery.lost(reason, "", began=bool(delivery.started_us))


def ended_by(error: Any, attempt: Any, attempts: Attempts) -> Receipt:
    """Make the receipt of an attempt for which Ray raises `error` instead of handing out its reply."""
    delivery: Delivery = attempt.delivery
    known = attempts.ray.exceptions
    if isinstance(error, known.RayTaskError):
        return _without_reply(error, attempt, attempts)
    if isinstance(error, known.TaskCancelledError):
        if attempt.is_asked_back and not attempt.is_forced:
            # Whoever asked did not wait for so long, and believes that it has begun.
            return delivery.unready()
        how = "was stopped on request" if attempt.is_forced else "was cancelled by somebody else, on Ray"
        return delivery.lost(f"The attempt {how}.", "", began=attempt.is_forced or bool(delivery.started_us))
    if _is_one_of(error, _NEVER_BEGAN):
        return delivery.lost(f"Ray could not start the task: {_line_of(error)}", "", began=False)
    return _with_its_worker(f"Ray lost the task: {_line_of(error)}", attempt, attempts)


def _with_its_worker(reason: str, attempt: Any, attempts: Attempts) -> Receipt:
    """Make the receipt of an attempt whose worker is gone; one that had not begun is tried again, and nobody is told."""
    delivery: Delivery = attempt.delivery
    worker = attempt.began_on(attempts.begun)
    if worker is not None or delivery.started_us or attempt.is_forced:
        return delivery.lost(reason, worker or "", began=True)
    if attempts.may_try_again(delivery.payload):
        return delivery.unready()
    return delivery.lost(f"{reason} It has lost several workers, each before its body began.", "", began=False)


def _without_reply(error: Any, attempt: Attempt, attempts: Attempts) -> Receipt:
    """Deal with an execution that ended outside of our code: before it, by its inputs, or behind it, by what it left."""
    delivery = attempt.delivery
    cause: Any = getattr(error, "cause", None)
    if isinstance(cause, attempts.ray.exceptions.RayError):
        if _is_one_of(cause, _LOST_VALUES):
            lost = getattr(cause, "object_ref_hex", None)
            attempts.lost.update(
                one for one in delivery.natives if type(one) not in (Foreign, Link) and one.hex() == lost
            )
            if not delivery.note_lost(attempts.lost.__contains__):
                return delivery.lost(f"A value that the task needs is lost: {_line_of(cause)}", "", began=False)
        return delivery.unready()
    if cause is None or isinstance(cause, ImportError):
        return delivery.lost(f"Ray's worker could not load what it is to run: {error}", "", began=False)
    name = getattr(delivery.payload.run, "task_name", delivery.payload.run.name)
    return Receipt(error=SerializationError(f"What task {name!r} left can't be kept in Ray: {describe(cause)}"))


def _is_one_of(error: Any, names: set[str]) -> bool:
    # By name: some came with later versions of Ray.
    return not names.isdisjoint(kind.__name__ for kind in type(error).__mro__)


def _line_of(error: BaseException) -> str:
    return describe(error).strip().partition("\n")[0]
