"""Turns `-p name=value` and `--params` into the arguments of a flow, and checks the names before anything runs."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from typing import Any

import click

from prefect_core.flows import Flow
from prefect_core.parameters import RESERVED

_TEXT = (str, "str")


def arguments(flow: Flow[..., Any], given: Sequence[str], document: str | None) -> tuple[list[Any], dict[str, Any]]:
    """Return the positional and named arguments of a call. Raises `click.UsageError` for what the flow can't be called with."""
    signature = flow.binder.signature
    values = _from_document(document)
    for text in given:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise click.BadParameter(f"{text!r} is not of the form name=value.", param_hint="-p")
        values[name] = _value(value, signature.parameters.get(name))
    _check_names(flow, signature, values)
    positional = [
        values.pop(name)
        for name, parameter in signature.parameters.items()
        if parameter.kind is inspect.Parameter.POSITIONAL_ONLY and name in values
    ]
    return positional, values


def _from_document(document: str | None) -> dict[str, Any]:
    if document is None:
        return {}
    try:
        values = json.loads(document)
    except json.JSONDecodeError as error:
        raise click.BadParameter(f"Not valid JSON: {error}.", param_hint="--params") from error
    if not isinstance(values, dict):
        raise click.BadParameter(
            f'Expected a JSON object such as {{"name": "value"}}, got {document}.', param_hint="--params"
        )
    return values


def _value(text: str, parameter: inspect.Parameter | None) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return text
    # `-p zip=01234` and `-p name=12` stay texts for a parameter that is annotated so.
    if parameter is not None and parameter.annotation in _TEXT and not isinstance(value, str):
        return text
    return value


def _check_names(flow: Flow[..., Any], signature: inspect.Signature, values: dict[str, Any]) -> None:
    parameters = {
        name: one
        for name, one in signature.parameters.items()
        if one.kind not in {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    }
    takes_any = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in signature.parameters.values())
    known = f"it takes {', '.join(parameters)}" if parameters else "it takes none"
    unknown = [name for name in values if name in RESERVED or (name not in parameters and not takes_any)]
    if unknown:
        raise click.UsageError(f"Flow {flow.name!r} has no parameter {', '.join(map(repr, unknown))}; {known}.")
    missing = [name for name, one in parameters.items() if one.default is one.empty and name not in values]
    if missing:
        raise click.UsageError(
            f"Flow {flow.name!r} needs {', '.join(map(repr, missing))}; give each as -p {missing[0]}=VALUE."
        )
