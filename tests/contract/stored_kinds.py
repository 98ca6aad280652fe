"""Classes whose objects are serialised, which JSON and pickle must bring back as they were; and a serializer of a user's."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum, Flag, IntEnum, auto
from typing import Any, NamedTuple

from pydantic import BaseModel, ConfigDict, PrivateAttr, RootModel, field_validator

from prefect_core.serializers import Serializer


class Colour(Enum):
    RED = "red"
    BLUE = ("blue", 2)


class Level(IntEnum):
    LOW = 1


class Rights(Flag):
    READ = auto()
    WRITE = auto()


class Point(NamedTuple):
    x: int
    y: Any = None


@dataclass
class Plain:
    name: str
    inner: Any = None
    computed: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.computed = len(self.name)
        self.extra = "set later"


@dataclass(frozen=True, slots=True)
class Frozen:
    a: int
    b: tuple[int, ...] = ()


class Strict(BaseModel):
    model_config = ConfigDict(extra="allow")
    name: str
    inner: Any = None
    _private: int = PrivateAttr(default=1)

    @field_validator("name")
    @classmethod
    def _shout(cls, name: str) -> str:
        # Would do it again if it were called for a value that is made again.
        return name + "!"


class Names(RootModel[list[str]]):
    pass


class Odd(Exception):
    """Its constructor takes other arguments than it passes on, which is what breaks pickles of exceptions."""

    def __init__(self, code: int, *, place: str) -> None:
        super().__init__(f"code {code}")
        self.code = code
        self.place = place


class DataclassThatIsAList(list[int]):
    pass


class Unrelated:
    """Neither data nor model: JSON must not make one."""

    made: list[object] = []

    def __init__(self) -> None:
        self.made.append(self)


class Reversed(Serializer):
    name = "reversed"

    def dumps(self, value: object) -> bytes:
        return str(value).encode()[::-1]

    def loads(self, data: bytes) -> object:
        return data[::-1].decode()
