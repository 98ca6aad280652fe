"""Where the value of an attempt lies in Ray, and how it is fetched from there."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from prefect_core.errors import MissingResult, ValueLost, describe
from prefect_core.references import Reference
from prefect_runners import ray_cluster
from prefect_runners.ray_values import value_in


class RayReference(Reference):
    """Refers to the second object of an execution, for as long as this reference is there."""

    __slots__ = ("_connection", "_ray", "making")

    def __init__(self, home: object, ray: ModuleType, connection: object, native: Any) -> None:
        """`connection` is that of `ray_cluster` in which the value is made."""
        super().__init__(home, native)
        self._ray = ray
        self._connection = connection
        self.making: Any = None
        """That of `Kept`, once it is known."""

    def fetch(self) -> Any:
        """Bring the value here. Arrays in it are read-only views of Ray's memory. Raises `ValueLost`, or `MissingResult` without Ray."""
        if ray_cluster.connection(self._ray) != self._connection:
            raise MissingResult(
                "The value lay in the memory of a Ray that is shut down. Ask for it before the flow run ends, return the value instead of "
                "its future, or store it: persist_result=True."
            )
        try:
            made = self._ray.get(self.native)
        except self._ray.exceptions.RayError as error:
            raise ValueLost(
                f"The value lay in the memory of Ray and is lost: {describe(error).partition(chr(10))[0]}"
            ) from error
        if self.making is not None and made.making != self.making:
            raise ValueLost(
                f"The value is not the one that the task run made: Ray ran the task again, against what it was told ({made.making} "
                f"instead of {self.making})."
            )
        return value_in(made)
