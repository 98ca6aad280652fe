"""Checking and coercing a flow's parameters with pydantic, by the annotations of its function.

pydantic is loaded when a flow with annotated parameters is first called, so a flow without annotations never pays for it.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Mapping
from typing import Any

from prefect_core.errors import ParameterTypeError
from prefect_core.parameters import is_field


class Validator:
    """Checks the parameters of one function."""

    def __init__(self, function: Callable[..., Any], signature: inspect.Signature) -> None:
        self._function = function
        self._signature = signature
        self._model: Any = None

    @property
    def is_needed(self) -> bool:
        """Whether any parameter says what it should be."""
        empty = inspect.Parameter.empty
        return any(
            parameter.annotation is not empty or is_field(parameter.default)
            for parameter in self._signature.parameters.values()
        )

    @property
    def model(self) -> Any:
        """The pydantic model of the parameters. Raises `ValueError` for a signature that none can be made of."""
        if self._model is None:
            self._model = _model_of(self._function, self._signature)
        return self._model

    def validate(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters coerced to their annotations. Raises `ParameterTypeError` that names each misfit."""
        if not self.is_needed:
            return dict(parameters)
        from pydantic import ValidationError
        from pydantic_core import PydanticUndefined

        model, names = self.model
        try:
            # A parameter without a value is one that `Field(...)` gives no default: the model says that it is required.
            given = {names[name]: value for name, value in parameters.items() if value is not PydanticUndefined}
            checked = model.model_validate(given)
        except ValidationError as error:
            back = {alias: name for name, alias in names.items()}
            lines = [_line(detail, back) for detail in error.errors(include_url=False, include_context=False)]
            raise ParameterTypeError("Flow run received invalid parameters:\n" + "\n".join(lines)) from error
        return {name: getattr(checked, names[name]) for name in parameters}


def _line(detail: Mapping[str, Any], back: Mapping[str, str]) -> str:
    path = [back.get(str(part), str(part)) if at == 0 else str(part) for at, part in enumerate(detail["loc"])]
    return f" - {'.'.join(path)}: {detail['msg']}"


def _model_of(function: Callable[..., Any], signature: inspect.Signature) -> tuple[Any, dict[str, str]]:
    from pydantic import ConfigDict, Field, create_model
    from pydantic.fields import FieldInfo

    annotations = _resolved_annotations(function)
    fields: dict[str, Any] = {}
    # Field names of our own, since a parameter may be called like something on pydantic's model class.
    names = {name: f"p{position}_{name.strip('_')}" for position, name in enumerate(signature.parameters)}
    for name, parameter in signature.parameters.items():
        annotation: Any = annotations.get(
            name, Any if parameter.annotation is parameter.empty else parameter.annotation
        )
        _refuse_model_of_pydantic_1(name, annotation)
        if parameter.kind is parameter.VAR_POSITIONAL:
            annotation = tuple[annotation, ...]
        elif parameter.kind is parameter.VAR_KEYWORD:
            annotation = dict[str, annotation]
        default = parameter.default
        if isinstance(default, FieldInfo):
            fields[names[name]] = (annotation, default)
        elif default is None and annotation is not Any:
            # `date: datetime = None` means "or None" to everybody who writes it.
            fields[names[name]] = (annotation | None if _can_union(annotation) else Any, None)
        else:
            fields[names[name]] = (annotation, ... if default is parameter.empty else Field(default=default))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = create_model(
                "Parameters", __config__=ConfigDict(arbitrary_types_allowed=True, extra="forbid"), **fields
            )
    except Exception as error:
        raise ValueError(
            f"Flow function is not compatible with `validate_parameters`: {str(error).rstrip('.')}. "
            "Disable validation or change the argument names."
        ) from error
    return model, names


def _refuse_model_of_pydantic_1(name: str, annotation: Any) -> None:
    if any(base.__module__.startswith("pydantic.v1.") for base in getattr(annotation, "__mro__", ())):
        raise ParameterTypeError(
            f"Cannot mix Pydantic v1 and v2 types as arguments to a flow. {name!r} is annotated with {annotation.__name__}, a model of "
            "pydantic.v1: make it one of pydantic, or turn validate_parameters off."
        )


def _can_union(annotation: Any) -> bool:
    try:
        return bool(annotation | None)
    except TypeError:
        return False


def _resolved_annotations(function: Callable[..., Any]) -> dict[str, Any]:
    from typing import get_type_hints

    target = inspect.unwrap(getattr(function, "__func__", function))
    target = getattr(target, "func", target)
    if not inspect.isroutine(target) and callable(target):
        target = type(target).__call__
    try:
        return get_type_hints(target, include_extras=True)
    except (NameError, TypeError, AttributeError):
        # A name that exists only for type checkers: that parameter passes as it is.
        return {name: _one_hint(target, text) for name, text in getattr(target, "__annotations__", {}).items()}


def _one_hint(target: Any, annotation: Any) -> Any:
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, getattr(target, "__globals__", {}))
    except Exception:
        return Any
