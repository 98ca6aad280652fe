"""Stored results: what is kept of a run's value, where, and for whom. The face of it is `load_result`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["load_result"]

_EXPORTS = {"load_result": "prefect_core.results.loading"}

if TYPE_CHECKING:
    from prefect_core.results.loading import load_result as load_result


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        from importlib import import_module  # the engine, which loads this package, needs none of it

        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
