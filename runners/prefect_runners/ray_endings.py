"""What Ray says of an attempt that did not answer, as a receipt."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Any

from prefect_core.errors import RunnerError, SerializationError, describe
from prefect_core.payload import Receipt

if TYPE_CHECKING:
    from prefect_runners.ray_attempts import Attempt

_NEVER_BEGAN = ("RuntimeEnvSetupError", "TaskUnschedulableError", "TaskPlacementGroupRemoved")
_LOST_VALUES = (
    "ObjectLostError",
    "OwnerDiedError",
    "ObjectReconstructionFailedError",
    "ObjectFreedError",
    "ObjectFetchTimedOutError",
)


def ended_by(error: Any, attempt: Attempt, ray: ModuleType) -> Receipt:
    """Make the receipt of an attempt for which Ray raises `error` instead of handing out its reply."""
    delivery = attempt.delivery
    kinds = {kind.__name__ for kind in type(error).__mro__}
    text = " ".join(describe(error).splitlines()[0].split())
    if isinstance(error, ray.exceptions.RayTaskError):
        return _without_reply(error, attempt, ray)
    if isinstance(error, ray.exceptions.TaskCancelledError):
        how = "was stopped on request" if attempt.is_forced else "was cancelled on Ray by somebody else"
        return delivery.lost(f"The attempt {how}.", "", began=attempt.is_forced or bool(delivery.started_us))
    if kinds.intersection(_NEVER_BEGAN):
        return delivery.lost(f"Ray could not start the task: {text}", "", began=False)
    return delivery.lost(f"Ray lost the task: {text}", "", began=True)


def _without_reply(error: Any, attempt: Attempt, ray: ModuleType) -> Receipt:
    """Deal with an execution that ended outside of our code: before it, by its inputs, or behind it, by what it left."""
    delivery = attempt.delivery
    cause: Any = getattr(error, "cause", None)
    if isinstance(cause, ray.exceptions.RayError):
        kinds = {kind.__name__ for kind in type(cause).__mro__}
        if kinds.intersection(_LOST_VALUES):
            return delivery.lost(
                f"A value that the task needs is lost: {describe(cause).splitlines()[0]}", "", began=False
            )
        receipt = Receipt(error=RunnerError("An input of this attempt was not made."))
        receipt.began, receipt.unready = False, True
        return receipt
    if cause is None or isinstance(cause, ImportError):
        return delivery.lost(f"Ray's worker could not load what it is to run: {error}", "", began=False)
    name = getattr(delivery.payload.run, "task_name", delivery.payload.run.name)
    return Receipt(error=SerializationError(f"What task {name!r} left can't be kept in Ray: {describe(cause)}"))
