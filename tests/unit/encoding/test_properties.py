"""Equal digests mean equal values of equal types, and the other way round."""

from __future__ import annotations

import copy
import math
import random
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_core.encoding import digest

# Few and close to each other, so that drawn values often differ in one place only.
FEW = st.sampled_from(
    [
        None,
        True,
        False,
        0,
        1,
        -1,
        0.0,
        -0.0,
        1.0,
        math.nan,
        "",
        "1",
        "N",
        "\ud800",
        b"",
        b"1",
        bytearray(),
        1j,
        ...,
        255,
        256,
        2**64,
    ]
)
ANY = st.one_of(
    st.integers(),
    st.floats(),
    st.text(st.characters(codec=None)),
    st.binary(),
    st.booleans(),
    st.none(),
    st.complex_numbers(),
)


def nested(atoms: st.SearchStrategy[Any], most: int) -> st.SearchStrategy[Any]:
    hashable = st.recursive(
        atoms.filter(lambda value: type(value) is not bytearray),
        lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
        max_leaves=4,
    )
    return st.recursive(
        atoms,
        lambda inner: (
            st.lists(inner, max_size=4)
            | st.lists(inner, max_size=4).map(tuple)
            | st.sets(hashable, max_size=4)
            | st.dictionaries(hashable, inner, max_size=4)
            | hashable
        ),
        max_leaves=most,
    )


def looks(value: Any) -> Any:
    """Return something hashable that is equal for values of equal types that look equal."""
    kind = type(value).__name__
    if isinstance(value, float):
        return kind, "nan" if math.isnan(value) else value.hex()
    if isinstance(value, complex):
        return kind, looks(value.real), looks(value.imag)
    if isinstance(value, bytearray):
        return kind, bytes(value)
    if isinstance(value, list | tuple):
        return kind, tuple(map(looks, value))
    if isinstance(value, set | frozenset):
        return kind, frozenset(Counter(map(looks, value)).items())
    if isinstance(value, dict):
        return kind, frozenset(Counter((looks(key), looks(item)) for key, item in value.items()).items())
    return kind, value


def shuffled(value: Any) -> Any:
    """Return an equal value whose dicts and sets were built in another order, with no part in common."""
    if isinstance(value, list | tuple):
        return type(value)(map(shuffled, value))
    if isinstance(value, set | frozenset):
        return type(value)(random.sample([shuffled(item) for item in value], len(value)))
    if isinstance(value, dict):
        return dict(random.sample([(shuffled(key), shuffled(item)) for key, item in value.items()], len(value)))
    return copy.copy(value)


@given(st.lists(nested(FEW, 6), min_size=2, max_size=30))
def test_values_that_are_close_have_equal_digests_exactly_if_they_look_equal(values: list[Any]) -> None:
    by_look: dict[Any, bytes] = {}
    for value in values:
        assert by_look.setdefault(looks(value), digest(value)) == digest(value)
    assert len(set(by_look.values())) == len(by_look)


@given(nested(ANY, 20), nested(ANY, 20))
def test_any_values_have_equal_digests_exactly_if_they_look_equal(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == (looks(one) == looks(other))


# Hypothesis seeds `random` for each example.
@given(nested(ANY | FEW, 40))
def test_neither_order_nor_identity_of_the_parts_makes_a_difference(value: Any) -> None:
    assert digest(shuffled(value)) == digest(value)
    assert digest([value, value]) == digest([value, shuffled(value)])


ROW = (
    st.sampled_from([0, 1, -1, 2**63 - 1, 2**63])
    | st.sampled_from(["", "a", "ab", "\ud800"])
    | st.sampled_from([0.0, -0.0, math.nan])
)
ROWS = st.one_of(
    st.lists(st.sampled_from([0, 1, 2**63 - 1]), min_size=14, max_size=18),
    st.lists(st.sampled_from(["", "a", "ab", "\ud800"]), min_size=14, max_size=18),
    st.lists(st.sampled_from([0.0, -0.0, math.nan, -math.nan]), min_size=14, max_size=18),
    st.lists(ROW, min_size=14, max_size=18),
)


@given(ROWS, ROWS)
def test_long_rows_of_one_type_differ_exactly_if_they_look_different(one: list[Any], other: list[Any]) -> None:
    assert (digest(one) == digest(other)) == (looks(one) == looks(other))
    changed = [*one[:-1], other[-1]]
    assert (digest(one) == digest(changed)) == (looks(one) == looks(changed))
    assert digest(one) != digest(tuple(one))


@settings(max_examples=30)
@given(st.lists(st.text(max_size=3), min_size=16, max_size=40))
def test_where_one_string_of_a_row_ends_makes_a_difference(row: list[str]) -> None:
    moved = ["".join(row), *[""] * (len(row) - 1)]
    assert (digest(row) == digest(moved)) == (row == moved)
