"""The interface of serializers, and how one is found by name.

A serializer turns a value into bytes and back; it knows nothing of tasks, keys or files. The history keeps what `spec()` returns next to
a stored result, and `resolve_serializer` makes an equal serializer of it in whatever process loads the result:

    "pickle"    "compressed/json"    {"name": "json", "options": {"jsonlib": "orjson"}}

A class of the user's is known by its `name` once its module is imported, and without that under the entry-point group
`prefect_core.serializers`.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import TYPE_CHECKING, Any, cast

from prefect_core import settings
from prefect_core.buffers import Buffer, Source
from prefect_core.errors import ConfigurationError, SerializationError, UnknownSerializerError, shown
from prefect_core.unpicklable import described

if TYPE_CHECKING:
    from importlib.metadata import EntryPoints
    from typing import Self

ENTRY_POINT_GROUP = "prefect_core.serializers"

BUILT_IN: dict[str, str] = {
    "pickle": "prefect_serializers.pickled:PickleSerializer",
    "json": "prefect_serializers.json:JSONSerializer",
    "compressed": "prefect_serializers.compressed:CompressedSerializer",
}
"""Our own serializers, known without asking the installed packages."""

_defined: dict[str, type[Serializer]] = {}
_METHODS = ("dumps", "loads", "dump", "load")


class Serializer(ABC):
    """Values to bytes and back.

    Write a class with a `name`, `dumps` and `loads`; `dump` and `load` are for formats that can do without copies. `executes_code` says
    whether loading bytes can run code that is in them; unless a class says that it can't, it is taken to.
    """

    name: str
    """What the history keeps and `resolve_serializer` takes."""

    executes_code: bool = True

    advice: str = (
        "Return plain data, choose another serializer (result_serializer=), or don't store it (persist_result=False)."
    )
    """What an error says to do about a value that this serializer can't take."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        name = cls.__dict__.get("name")
        if isinstance(name, str):
            _defined[name] = cls

    @abstractmethod
    def dumps(self, value: Any) -> bytes:
        """Return the value as bytes."""

    @abstractmethod
    def loads(self, data: bytes) -> Any:
        """Make the value again of what `dumps` returned."""

    def dump(self, value: Any) -> list[Buffer]:
        """Return pieces to be written one after the other. They may be views of the value, which must not change before that."""
        return [self.dumps(value)]

    def load(self, source: Source) -> Any:
        """Make the value again of a stream that stands at the first piece. Reads to its end *before* anything of it is interpreted."""
        return self.loads(source.read())

    def attempt(self, value: Any) -> object:
        """Serialise a part of a value, in search of the part that can't be; raises whatever that raises."""
        return self.dumps(value)

    def options(self) -> dict[str, Any]:
        """Return what this one was made with, as far as it differs from the default: values that JSON can hold."""
        return {}

    @classmethod
    def from_spec(cls, argument: str, options: dict[str, Any]) -> Self:
        """Make one of what stands behind the slash of its name ("" without one) and of `options()`."""
        if argument:
            raise ConfigurationError(f"{cls.__name__} takes nothing behind a slash in its name, got {argument!r}.")
        return cls(**options)

    def spec(self) -> str:
        """Return the text of which `resolve_serializer` makes an equal one: the name, or JSON where there are options."""
        options = self.options()
        return json.dumps({"name": self.name, "options": options}, sort_keys=True) if options else self.name

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Serializer) and type(self) is type(other) and self.spec() == other.spec()

    def __hash__(self) -> int:
        return hash((type(self), self.spec()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in self.options().items())})"


SerializerSpec = Serializer | str
"""What `result_serializer=` takes: a serializer, its name, or what its `spec()` returned."""


def check_serializer(spec: Any) -> Any:
    """Return what was given as `result_serializer`, which may be None. Raises `TypeError` for what can't be one.

    A name is looked up later, when the result is stored.
    """
    if isinstance(spec, type) and issubclass(spec, Serializer):
        raise TypeError(f"Expected a serializer or its name for 'result_serializer'; got the class: {spec.__name__}().")
    if isinstance(spec, Serializer) and not isinstance(getattr(spec, "name", None), str):
        raise TypeError(
            f"{type(spec).__name__} needs a `name`, under which the history keeps it; got {shown(spec, 200)}."
        )
    if spec is None or isinstance(spec, Serializer) or (isinstance(spec, str) and spec):
        return spec
    raise TypeError(f"Expected a serializer or its name for 'result_serializer'; got {shown(spec, 200)}.")


def resolve_serializer(spec: SerializerSpec) -> Serializer:
    """Return the serializer for an instance, a name, or the text that `spec()` returned.

    Raises `UnknownSerializerError`, `TypeError`, or `ConfigurationError`: it could not be found again by who loads, or the setting
    `results_json_only` is on and loading would run code.
    """
    check_serializer(spec)
    if isinstance(spec, str):
        serializer = _from_text(spec)
    else:
        serializer = spec
        _check_is_found_again(serializer)
    if serializer.executes_code:
        check_code_is_allowed(f"The serializer {serializer.spec()!r}")
    return serializer


def check_code_is_allowed(what: str) -> None:
    """Raise `ConfigurationError` if the setting `results_json_only` is on: for what may run code when it loads."""
    if settings.current().results_json_only:
        raise ConfigurationError(
            f"{what} may run code when it loads, and the setting results_json_only allows only what can't. "
            'Use result_serializer="json", or switch PREFECT_CORE_RESULTS_JSON_ONLY off.'
        )


def _from_text(text: str) -> Serializer:
    name, options = text, {}
    if text.startswith("{"):
        try:
            parsed = json.loads(text)
            name, options = str(parsed["name"]), dict(parsed["options"])
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{text!r} is no serializer: expected a name, or name and options as JSON."
            ) from error
    kind, argument = _find(name)
    try:
        return kind.from_spec(argument, options)
    except ConfigurationError:
        raise
    except (TypeError, ValueError) as error:
        raise ConfigurationError(f"The serializer {text!r} can't be made: {error}") from error


def _find(name: str) -> tuple[type[Serializer], str]:
    """Return the class for a name and what is left of the name for it: in "compressed/json", "json"."""
    first, _, argument = name.partition("/")
    for look_up in (_class_at_hand, _class_installed):
        for candidate, rest in ((name, ""), (first, argument)):
            kind = look_up(candidate)
            if kind is not None:
                return kind, rest
    known = ", ".join(sorted({*BUILT_IN, *_defined, *_installed().names} - {"compressed"}))
    raise UnknownSerializerError(
        f"There is no serializer called {name!r}. Known: {known}; each also compressed, as in compressed/pickle. One of your own is known "
        f"once the module with its class is imported, or by an entry point of the group {ENTRY_POINT_GROUP!r}."
    )


def _class_at_hand(name: str) -> type[Serializer] | None:
    if name in BUILT_IN:
        from importlib import import_module  # the faces name our serializers as strings

        module, _, attribute = BUILT_IN[name].partition(":")
        return cast("type[Serializer]", getattr(import_module(module), attribute))
    return _defined.get(name)


def _class_installed(name: str) -> type[Serializer] | None:
    found = _installed()
    return cast("type[Serializer]", found[name].load()) if name in found.names else None


@lru_cache(maxsize=1)
def _installed() -> EntryPoints:
    from importlib.metadata import entry_points  # reads every installed package's metadata

    return entry_points(group=ENTRY_POINT_GROUP)


def _check_is_found_again(serializer: Serializer) -> None:
    """Raise unless the serializer's name leads to the methods that it has: what it writes would be read by another one."""
    kind, found = type(serializer), _find(serializer.name)[0]
    # A class that was defined again, as in a notebook, is the same one to whoever loads.
    is_the_same = f"{kind.__module__}.{kind.__qualname__}" == f"{found.__module__}.{found.__qualname__}"
    if not is_the_same and any(getattr(kind, method) is not getattr(found, method) for method in _METHODS):
        raise ConfigurationError(
            f"{kind.__name__} has the name {serializer.name!r}, which is that of {found.__module__}.{found.__qualname__}: what it stores "
            "would be loaded by that one. Give the class a `name` of its own."
        )


def describe_unserializable(serializer: Serializer, value: Any, failure: Exception) -> str:
    """Say what of a value a serializer can't take, and what to do; `failure` is what `dump` raised. A caller puts the task's name first."""
    if isinstance(failure, SerializationError):
        return str(failure)
    what = described("value", value, failure, serializer.attempt)
    return f"the serializer {serializer.name!r} can't take it: {what}. {serializer.advice}"


def import_library(option: str, name: str) -> Any:
    """Import the module with `dumps` and `loads` that an option names. Raises `ValueError`."""
    library = _imported(option, name, name)
    missing = [function for function in ("dumps", "loads") if not callable(getattr(library, function, None))]
    if missing:
        raise ValueError(f"{option}={name!r} has no function {' and no '.join(map(repr, missing))}.")
    return library


def import_function(option: str, name: str) -> Any:
    """Import the function that an option names with its module. Raises `ValueError`."""
    module, _, attribute = name.rpartition(".")
    function = getattr(_imported(option, name, module), attribute, None) if module else None
    if callable(function):
        return function
    raise ValueError(f"{option}={name!r} names no function; expected module.function.")


def _imported(option: str, name: str, module: str) -> Any:
    from importlib import import_module  # options name libraries as strings

    try:
        return import_module(module)
    except ImportError as error:
        raise ValueError(f"{option}={name!r} can't be imported: {error}.") from error


_EXPORTS = {
    "PickleSerializer": "prefect_serializers.pickled",
    "JSONSerializer": "prefect_serializers.json",
    "CompressedSerializer": "prefect_serializers.compressed",
    "CompressedPickleSerializer": "prefect_serializers.compressed",
    "CompressedJSONSerializer": "prefect_serializers.compressed",
}

if TYPE_CHECKING:
    from prefect_serializers.compressed import CompressedJSONSerializer as CompressedJSONSerializer
    from prefect_serializers.compressed import CompressedPickleSerializer as CompressedPickleSerializer
    from prefect_serializers.compressed import CompressedSerializer as CompressedSerializer
    from prefect_serializers.json import JSONSerializer as JSONSerializer
    from prefect_serializers.pickled import PickleSerializer as PickleSerializer


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        from importlib import import_module  # the faces name our serializers as strings

        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
