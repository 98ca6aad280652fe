"""Stored results: what is kept of a run's value, where, and for whom. Its face are `load_result` and `ResultStore`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["ResultStore", "load_result"]

_EXPORTS = {"ResultStore": "prefect_core.results.store", "load_result": "prefect_core.results.loading"}

if TYPE_CHECKING:
    from prefect_core.results.loading import load_result as load_result
    from prefect_core.results.store import ResultStore as ResultStore


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        from importlib import import_module  # the engine, which loads this package, needs none of it

        return getattr(import_module(_EXPORTS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
