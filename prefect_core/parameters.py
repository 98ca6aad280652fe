"""Parameters: from the arguments of a call to named values, and the form in which the history keeps them.

Binding runs for every call of a task, so each function gets a *binder* compiled from its signature when it is first called: a function
with the same parameters that returns them as a dict. It costs a third of a microsecond, where `inspect.Signature.bind` costs ten.
"""

from __future__ import annotations

import inspect
import json
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from prefect_core.errors import ParameterBindError, ReservedArgumentError, SignatureMismatchError, shown
from prefect_core.settings import current as settings

RESERVED = frozenset({"return_state", "wait_for"})

_VAR_POSITIONAL = inspect.Parameter.VAR_POSITIONAL
_VAR_KEYWORD = inspect.Parameter.VAR_KEYWORD
_POSITIONAL_ONLY = inspect.Parameter.POSITIONAL_ONLY
_KEYWORD_ONLY = inspect.Parameter.KEYWORD_ONLY
_EMPTY = inspect.Parameter.empty


def check_reserved(signature: inspect.Signature) -> None:
    """Raise `ReservedArgumentError` if a parameter has a name that calls of flows and tasks use themselves."""
    for name in signature.parameters:
        if name in RESERVED:
            raise ReservedArgumentError(f"{name!r} is a reserved argument name and cannot be used.")


class Binder:
    """Turns the arguments of one function into its parameters, defaults filled in."""

    def __init__(self, function: Callable[..., Any], signature: inspect.Signature | None = None) -> None:
        self.function = function
        self.signature = signature or inspect.signature(function)
        self.has_fields = any(is_field(parameter.default) for parameter in self.signature.parameters.values())
        self._fast = _with_fresh_defaults(_compile(self.signature), self.signature)
        self.lacks_class = _lacks_class(function, self.signature)
        if self.lacks_class:
            self._fast = _with_class_checked(self._fast)
        self._names = frozenset(self.signature.parameters)
        kinds = [parameter.kind for parameter in self.signature.parameters.values()]
        self._is_plain = all(
            kind not in (_VAR_POSITIONAL, _VAR_KEYWORD, _POSITIONAL_ONLY, _KEYWORD_ONLY) for kind in kinds
        )

    def bind(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return parameters by name; `*args` as a tuple, `**kwargs` as a dict under their names. Raises `ParameterBindError`."""
        try:
            bound: dict[str, Any] = self._fast(*args, **kwargs)
        except TypeError as error:
            raise self._mismatch(args, kwargs, error) from None
        return bound

    def bind_without_defaults(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return only what was given. Raises `ParameterBindError`."""
        try:
            return dict(self.signature.bind(*args, **kwargs).arguments)
        except TypeError as error:
            raise self._mismatch(args, kwargs, error) from None

    def unbind(self, parameters: Mapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that call the function with `parameters`; missing ones are left to their defaults.

        Raises `SignatureMismatchError` for a name that the function has not.
        """
        if not parameters.keys() <= self._names:
            raise SignatureMismatchError(
                f"Function expects parameters {list(self.signature.parameters)} but was provided with parameters {list(parameters)}"
            )
        if self._is_plain:
            return (), dict(parameters)
        bound = inspect.BoundArguments(
            self.signature, {name: parameters[name] for name in self.signature.parameters if name in parameters}
        )
        return bound.args, bound.kwargs

    def arguments(
        self, parameters: Mapping[str, Any], may_lack_values: bool = False
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Return the arguments that call the function with what `bind` returned, for one that `has_fields`.

        Python itself would pass it the `Field(...)` and not the default in it. Raises `ParameterBindError` for one that has neither a
        value nor a default, unless validation is going to find that out.
        """
        from pydantic_core import PydanticUndefined

        missing = [name for name, value in parameters.items() if value is PydanticUndefined]
        if missing and not may_lack_values:
            given = [name for name in parameters if name not in missing]
            raise self._misfit((), given, f"missing a required argument: {missing[0]!r}")
        return self.unbind(parameters)

    def _mismatch(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], error: TypeError) -> ParameterBindError:
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as clearer:
            error = clearer
        return self._misfit(args, kwargs, str(error))

    def _misfit(self, args: tuple[Any, ...], names: Iterable[str], reason: str) -> ParameterBindError:
        name = getattr(self.function, "__name__", repr(self.function))
        cure = f"\n{_CLASS_IS_LOST}" if self.lacks_class else ""
        return ParameterBindError(
            f"Error binding parameters for function {name!r}: {reason}.\nFunction {name!r} has signature "
            f"{', '.join(map(str, self.signature.parameters.values()))!r} but received args: {shown(args)} and kwargs: {list(names)}."
            f"{cure}"
        )


def _compile(signature: inspect.Signature) -> Callable[..., dict[str, Any]]:
    """Make a function with this signature that returns its parameters."""
    defaults: dict[str, Any] = {}
    parts: list[str] = []
    previous = None
    for name, parameter in signature.parameters.items():
        if not name.isidentifier():
            return _slow(signature)
        if previous is _POSITIONAL_ONLY and parameter.kind is not _POSITIONAL_ONLY:
            parts.append("/")
        if parameter.kind is _KEYWORD_ONLY and previous not in (_VAR_POSITIONAL, _KEYWORD_ONLY):
            parts.append("*")
        previous = parameter.kind
        prefix = "*" if parameter.kind is _VAR_POSITIONAL else "**" if parameter.kind is _VAR_KEYWORD else ""
        if parameter.default is _EMPTY:
            parts.append(prefix + name)
        else:
            defaults[f"_default_{len(defaults)}"] = _unwrapped_default(parameter.default)
            parts.append(f"{name}=_default_{len(defaults) - 1}")
    if previous is _POSITIONAL_ONLY:
        parts.append("/")
    content = ", ".join(f"{name!r}: {name}" for name in signature.parameters)
    # The source is made of identifiers and punctuation only; values come in through the namespace.
    exec(f"def bind({', '.join(parts)}): return {{{content}}}", defaults)
    compiled: Callable[..., dict[str, Any]] = defaults["bind"]
    return compiled


def _slow(signature: inspect.Signature) -> Callable[..., dict[str, Any]]:
    # The signature that is shown in messages keeps its defaults as they are written.
    signature = signature.replace(
        parameters=[p.replace(default=_unwrapped_default(p.default)) for p in signature.parameters.values()]
    )

    def bind(*args: Any, **kwargs: Any) -> dict[str, Any]:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return dict(bound.arguments)

    return bind


def is_field(default: object) -> bool:
    """Tell whether a default is written as pydantic's `Field(...)`, without loading pydantic."""
    return type(default).__name__ == "FieldInfo" and type(default).__module__.startswith("pydantic")


def _unwrapped_default(default: Any) -> Any:
    """Return the value of a default written as `Field(default=...)`; one with a factory stays, since each call gets a value of its own."""
    return default.get_default() if is_field(default) and default.default_factory is None else default


def _with_fresh_defaults(
    bind: Callable[..., dict[str, Any]], signature: inspect.Signature
) -> Callable[..., dict[str, Any]]:
    """Let the factories of defaults written as `Field(default_factory=...)` make a value at each call."""
    made = {
        name: p.default
        for name, p in signature.parameters.items()
        if is_field(p.default) and p.default.default_factory is not None
    }
    if not made:
        return bind

    def bind_afresh(*args: Any, **kwargs: Any) -> dict[str, Any]:
        bound = bind(*args, **kwargs)
        for name, default in made.items():
            if bound[name] is default:
                takes_others = getattr(default, "default_factory_takes_validated_data", False)
                bound[name] = default.default_factory(bound) if takes_others else default.default_factory()
        return bound

    return bind_afresh


_CLASS_IS_LOST = (
    "From Python 3.13 on, `submit`, `map` and `with_options` don't get the class of a method with @classmethod over our decorator: "
    "put ours above @classmethod."
)


def _lacks_class(function: Callable[..., Any], signature: inspect.Signature) -> bool:
    """Tell whether a function is written in a class as a class method, and not bound to one."""
    if next(iter(signature.parameters), None) != "cls" or not inspect.isfunction(function):
        return False
    around = function.__qualname__.rpartition(".")[0]
    return bool(around) and not around.endswith("<locals>")


def _with_class_checked(bind: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    """Let a class method that was not given its class say so, and not take the first argument for it."""

    def bind_checked(*args: Any, **kwargs: Any) -> dict[str, Any]:
        bound = bind(*args, **kwargs)
        if not isinstance(bound["cls"], type):
            raise TypeError(f"'cls' is to be a class, and was given {shown(bound['cls'])}")
        return bound

    return bind_checked


def as_json(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return `parameters` in the form that the history keeps: JSON values, and `"<TypeName>"` for what JSON can't hold."""
    return {name: _jsonable(value) for name, value in parameters.items()}


def unheld(
    parameters: Mapping[str, Any], encoded: Mapping[str, Any], restore: Callable[[dict[str, Any]], Mapping[str, Any]]
) -> list[str]:
    """Return the names of parameters that can't be had back from what `as_json` made of them; `restore` checks and coerces that."""
    doubtful = [name for name, value in parameters.items() if not _is_json(value)]
    if not doubtful:
        return []
    try:
        back = restore(dict(encoded))
    except Exception:
        return doubtful
    return [name for name in doubtful if not _is_same(parameters[name], back.get(name))]


def _is_json(value: Any) -> bool:
    kind = type(value)
    if kind is list:
        return all(map(_is_json, value))
    if kind is dict:
        return all(type(key) is str for key in value) and all(map(_is_json, value.values()))
    return kind in _SCALARS or (kind is float and math.isfinite(value))


def _is_same(value: Any, other: Any) -> bool:
    try:
        return type(value) is type(other) and bool(value == other)
    except Exception:
        # Arrays, for one, are neither equal nor not.
        return False


_SCALARS = frozenset({type(None), bool, int, str})


def _jsonable(value: Any) -> Any:
    if type(value) in _SCALARS:
        return value
    try:
        return json.loads(json.dumps(value, default=_encode_further, allow_nan=False))
    except (TypeError, ValueError, RecursionError):
        return f"<{type(value).__name__}>"


def _encode_further(value: Any) -> Any:
    if isinstance(value, Iterator):
        # Looking into a generator, a map or a file would use it up before the body gets it.
        raise TypeError(f"{type(value).__name__} can be read only once.")
    if isinstance(value, set | frozenset | deque):
        return list(value)
    names = getattr(type(value), "__dataclass_fields__", None) or getattr(type(value), "model_fields", None)
    if isinstance(names, Mapping):
        return {name: getattr(value, name, None) for name in names}
    # Loaded only for a value that plain JSON can't hold.
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        return to_jsonable_python(value)
    except PydanticSerializationError as error:
        raise TypeError(str(error)) from error


_SHOWN_BYTES = 1000
"""What is still shown of a parameter, once all of them together are too large."""


def abridged(encoded: Mapping[str, Any]) -> dict[str, Any]:
    """Return encoded parameters as they may be recorded: of those that `check_size` would refuse, the large ones by their size alone."""
    if not _excess(encoded):
        return dict(encoded)
    sizes = {name: _json_size(value) for name, value in encoded.items()}
    return {
        name: value if sizes[name] <= _SHOWN_BYTES else f"<{sizes[name]:,} bytes>" for name, value in encoded.items()
    }


def check_size(encoded: Mapping[str, Any]) -> None:
    """Raise `ValueError` if encoded parameters are larger than the setting `max_parameter_bytes`; it names the largest."""
    total = _excess(encoded)
    if total:
        limit = settings().max_parameter_bytes
        sizes = {name: _json_size(value) for name, value in encoded.items()}
        largest = max(sizes, key=sizes.__getitem__)
        raise ValueError(
            f"Flow run parameters must be less than {limit:,} bytes when serialized (got {total} bytes). The largest is "
            f"{largest!r} with {sizes[largest]} bytes: pass a reference to the data, such as a path, and load it in the flow."
        )


def _excess(encoded: Mapping[str, Any]) -> int:
    """Return the size of encoded parameters if it is more than is allowed, else 0."""
    limit = settings().max_parameter_bytes
    total = _json_size(encoded) if limit and encoded else 0
    return total if total > limit else 0


def _json_size(value: Any) -> int:
    return len(json.dumps(value, separators=(",", ":")))
