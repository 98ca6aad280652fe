"""The digest of code: what changes it, and what doesn't."""

from __future__ import annotations

import functools
import math
import operator
import sys
from typing import Any

import pytest

from prefect_core import flow, task
from prefect_core.encoding import NotEncodable, code_digest
from tests.unit.encoding.plain import Job

BODY = """
def fn(a, b=1):
    names = {"a", "b", "c"}
    class Inner:
        x = 1
        def method(self): return a
    def nested(): return [c for c in names if c > "a"]
    try:
        return sum(map(lambda x: x + 1, nested()))
    except ValueError:
        return 0.5, b"c", (1, ...)
"""


def made(source: str = BODY, file: str = "one.py") -> Any:
    space: dict[str, Any] = {"__name__": "made"}
    exec(compile(source, file, "exec"), space)
    return space["fn"]


UNCHANGED = {
    "other lines": "\n" * 500 + BODY,
    "other file": BODY,
    "comments": BODY.replace("    try:", "    # why\n    try:"),
    "blank lines": BODY.replace("    try:", "\n\n    try:"),
    "another default, which is a value": BODY.replace("b=1", "b=2"),
    "annotations": BODY.replace("a, b=1", "a: int, b: str = 1"),
}


@pytest.mark.parametrize("source", UNCHANGED.values(), ids=UNCHANGED)
def test_code_is_unchanged_with(source: str) -> None:
    assert code_digest(made(source, "two.py")) == code_digest(made())


CHANGED = {
    "number": ("x + 1", "x + 2"),
    "type of a number": ("0.5", "5"),
    "sign of zero": ("0.5", "-0.0"),
    "bytes": ('b"c"', '"c"'),
    "constant of a set": ('{"a"', '{"z"'),
    "constant of a comprehension": ('c > "a"', 'c > "b"'),
    "operator": ("x + 1", "x - 1"),
    "name of a global": ("sum(", "max("),
    "name of an exception": ("ValueError", "KeyError"),
    "name of a parameter": ("b=1", "d=1"),
    "kind of a parameter": ("a, b=1", "a, *, b=1"),
    "body of a class inside": ("x = 1\n", "x = 3\n"),
    "method of a class inside": ("return a\n", "return a + 1\n"),
    "colour": ("def fn", "async def fn"),
}


@pytest.mark.parametrize(("before", "after"), CHANGED.values(), ids=CHANGED)
def test_code_is_changed_by_another(before: str, after: str) -> None:
    assert before in BODY
    assert code_digest(made(BODY.replace(before, after))) != code_digest(made())


def test_a_digest_of_code_has_16_bytes() -> None:
    assert len(code_digest(made())) == len(code_digest(len)) == 16


def test_running_and_tracing_a_function_leaves_its_digest() -> None:
    fn = made("def fn(n):\n    total = 0\n    for i in range(n):\n        total += i\n    return total\n")
    before = code_digest(fn)
    traced = sys.gettrace()
    fn(10_000)
    assert code_digest(fn) == before
    sys.settrace(lambda *_: None)
    try:
        fn(10_000)
        assert code_digest(fn) == before
    finally:
        sys.settrace(traced)


class Callable:
    def __call__(self):
        return 1


def plus(a, b=0):
    return a + b


def wrapper(fn):
    @functools.wraps(fn)
    def inner(*args):
        return fn(*args)

    return inner


def test_the_function_behind_another_face_counts() -> None:
    plain = code_digest(plus)
    assert code_digest(functools.partial(plus, 1)) == plain
    assert (
        code_digest(task(plus)) == code_digest(flow(plus)) == code_digest(task(plus).with_options(retries=1)) == plain
    )
    assert code_digest(Job("a").run) == code_digest(Job.run)
    assert code_digest(Job.make) == code_digest(Job.make.__func__)
    assert code_digest(Callable()) == code_digest(Callable.__call__)
    assert code_digest(functools.lru_cache(plus)) == plain


def test_what_a_decorator_wraps_counts_with_it() -> None:
    one, other = wrapper(plus), wrapper(made())
    assert code_digest(one) not in {code_digest(other), code_digest(plus)}
    assert code_digest(one) == code_digest(wrapper(plus))


def test_a_function_without_code_counts_by_its_name() -> None:
    assert len({code_digest(one) for one in (len, math.sqrt, int, Job, operator.add, str.upper)}) == 6
    assert code_digest(len) == code_digest(len)
    with pytest.raises(NotEncodable, match="builtin_function_or_method has no stable encoding"):
        code_digest([].append)


def test_a_function_that_says_it_wraps_itself_is_read_once() -> None:
    fn = made()
    fn.__wrapped__ = fn
    assert code_digest(fn) == code_digest(made())


class Broken:
    def __getattr__(self, name):
        raise ValueError(name)


def test_what_user_code_raises_is_the_cause() -> None:
    with pytest.raises(NotEncodable, match="reading it raised ValueError") as raised:
        code_digest(Broken())
    assert isinstance(raised.value.__cause__, ValueError)
