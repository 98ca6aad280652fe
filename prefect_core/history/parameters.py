"""Makes the JSON text in which the history keeps parameters: for people to read, so whatever JSON can't hold becomes a short text."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

LONGEST_TEXT = 500
"""Characters kept of an object that JSON can't hold."""


def parameters_text(values: Mapping[str, Any]) -> str:
    """Return `values` as JSON; never raises and keeps no reference to them."""
    if not values:
        return "{}"
    try:
        return _dump(values)
    except Exception:
        # Keys that are no texts, circles, objects that can't even describe themselves: keep what can be kept.
        return _dump({str(name): _safe(value) for name, value in values.items()})


def _dump(value: Any) -> str:
    return json.dumps(value, default=_describe, separators=(",", ":"), ensure_ascii=False)


def _safe(value: Any) -> Any:
    try:
        json.dumps(value, default=_describe)
    except Exception:
        return _describe(value)
    return value


def _describe(value: Any) -> Any:
    if isinstance(value, set | frozenset):
        return list(value)
    try:
        if hasattr(type(value), "isoformat"):
            return value.isoformat()
        if hasattr(type(value), "model_dump"):
            return value.model_dump(mode="json")
        text = str(value) if hasattr(type(value), "__fspath__") or type(value).__module__ == "uuid" else repr(value)
    except Exception as error:
        return f"<{type(value).__name__}, whose repr raises {type(error).__name__}>"
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]}..."
