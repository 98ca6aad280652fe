"""What else is known of a state, beside its kind, name, message, moment and data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from datetime import datetime
    from uuid import UUID


class StateDetails:
    """What else is known of a state; a field that does not apply is None."""

    __slots__ = (
        "child_flow_run_id",
        "flow_run_id",
        "parent_task_run_id",
        "pause_key",
        "pause_reschedule",
        "pause_timeout",
        "run_input_keyset",
        "scheduled_time",
        "task_run_id",
    )

    def __init__(
        self,
        flow_run_id: UUID | None = None,
        task_run_id: UUID | None = None,
        child_flow_run_id: UUID | None = None,
        scheduled_time: datetime | None = None,
        pause_timeout: datetime | None = None,
        pause_reschedule: bool = False,
        pause_key: str | None = None,
        parent_task_run_id: UUID | None = None,
        run_input_keyset: dict[str, str] | None = None,
    ) -> None:
        self.flow_run_id = flow_run_id
        self.task_run_id = task_run_id
        self.child_flow_run_id = child_flow_run_id
        self.scheduled_time = scheduled_time
        self.pause_timeout = pause_timeout
        self.pause_reschedule = pause_reschedule
        self.pause_key = pause_key
        self.parent_task_run_id = parent_task_run_id
        self.run_input_keyset = run_input_keyset

    def fields(self) -> dict[str, Any]:
        """Return the fields that are set."""
        return {name: value for name in self.__slots__ if (value := getattr(self, name)) not in (None, False)}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StateDetails) and self.fields() == other.fields()

    def __hash__(self) -> int:
        raise TypeError("StateDetails can't be hashed: its fields may be set after it was made.")

    def __repr__(self) -> str:
        return f"StateDetails({', '.join(f'{name}={value!r}' for name, value in self.fields().items())})"
