"""The runner contract by theme; `prefect_core.testing.runner_contract` puts the themes together."""

from __future__ import annotations

import pytest

_THEMES = ("course", "inputs", "limits", "nesting", "sameness", "surroundings", "values")
# Before they are imported, so that a failing assertion shows its values.
pytest.register_assert_rewrite(*(f"{__name__}.{theme}" for theme in _THEMES))
