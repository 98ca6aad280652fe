"""`RunInput`: what a paused flow run waits for. Loads pydantic, as only flows that pause for an input import it.

class Approval(RunInput):
    approved: bool
    remarks: str = ""

approval = pause_flow_run(wait_for_input=Approval.with_initial_data(description="Go on?", remarks="none"))
"""

from __future__ import annotations

from typing import Any, ClassVar, Self

from pydantic import BaseModel, create_model

from prefect_core.input_forms import InvalidInput, keyset_of
from prefect_core.states import State

__all__ = ["InvalidInput", "RunInput", "keyset_from_paused_state"]


class RunInput(BaseModel):
    """The base of forms; fields are those of a pydantic model."""

    model_config: ClassVar[Any] = {"extra": "forbid"}

    __description__: ClassVar[str | None] = None

    @classmethod
    def with_initial_data(cls, description: str | None = None, **initial: Any) -> type[Self]:
        """Return this form with a description, a text for whoever resumes the run, and other defaults."""
        unknown = sorted(set(initial) - set(cls.model_fields))
        if unknown:
            raise TypeError(f"{cls.__name__} has no field {', '.join(map(repr, unknown))}.")
        fields: dict[str, Any] = {name: (cls.model_fields[name].annotation, value) for name, value in initial.items()}
        made: Any = create_model(cls.__name__, __base__=cls, __module__=cls.__module__, **fields)
        made.__description__ = description if description is not None else cls.__description__
        made.__qualname__ = f"{cls.__qualname__}.<with_initial_data>"
        form: type[Self] = made
        return form


def keyset_from_paused_state(state: State) -> dict[str, str]:
    """Return the names of the parts of a paused state's form: description, response, schema."""
    if not state.is_paused():
        raise RuntimeError(f"{state.type.value!r} is unsupported.")
    details = state.state_details
    return keyset_of(details.pause_reschedule, str(details.pause_key))
