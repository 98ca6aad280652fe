"""What every store keeps of concurrency limits: never more slots than there are, all or none, in order, and none for ever."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prefect_core.history.limits import Asked, LimitRow, LimitTable, Refusal
from prefect_core.history.memory import MemoryStore
from prefect_core.history.process import ProcessIdentity, is_gone, is_over, this_process
from prefect_core.history.sqlite.store import SqliteStore
from prefect_core.testing import FakeClock


@pytest.fixture(params=["memory", "sqlite"])
def table(request, tmp_path: Path) -> Iterator[LimitTable]:
    yield from made(request.param, tmp_path)


def made(kind: str, folder: Path) -> Iterator[LimitTable]:
    store = MemoryStore() if kind == "memory" else SqliteStore(folder / "home")
    store.next_key()
    store.next_key()
    yield store.limits()
    store.close()


def lives(_: ProcessIdentity) -> bool | None:
    return False


def is_unseen(_: ProcessIdentity) -> bool | None:
    return None


class Crowd:
    """Asks a table for slots, as owners that are told apart by their numbers."""

    def __init__(self, table: LimitTable, process: int = 1) -> None:
        self.table = table
        self.process = process
        self.owners = 0

    def ask(self, *names: str, occupy: int = 1, **options: Any) -> Any:
        self.owners += 1
        options.setdefault("owner", self.owners)
        wish = Asked(names, occupy, label=f"run-{self.owners}", **options)
        return self.table.exchange(self.process, [wish]).answers[0]

    def key(self, *names: str, **options: Any) -> int:
        key = self.ask(*names, **options).key
        assert key is not None
        return key

    def end(self, key: int) -> list[int]:
        return self.table.exchange(self.process, [key]).granted

    def held(self) -> set[int]:
        return self.table.look(self.process, lives).held


@pytest.fixture
def crowd(table: LimitTable) -> Crowd:
    table.put("one", 1, 0)
    table.put("two", 2, 0)
    return Crowd(table)


def test_limits_are_made_changed_and_removed(table: LimitTable) -> None:
    assert table.put("db", 3, 0)
    assert not table.put("db", 2, 0.5)
    [row] = table.limits()
    assert (row.name, row.slots, row.decay_per_second) == ("db", 2, 0.5)
    table.put("api", 1, 0)
    assert [row.name for row in table.limits()] == ["api", "db"]
    assert table.remove("db")
    assert not table.remove("db")
    assert [row.name for row in table.limits()] == ["api"]


def test_no_more_get_slots_than_there_are_and_the_others_in_order(crowd: Crowd) -> None:
    keys = [crowd.key("two") for _ in range(5)]
    assert crowd.held() == set(keys[:2])
    assert crowd.end(keys[1]) == [keys[2]]
    assert crowd.end(keys[3]) == []
    assert crowd.end(keys[0]) == [keys[4]]
    assert crowd.held() == {keys[2], keys[4]}
    assert crowd.end(999) == []


def test_the_higher_priority_comes_first(crowd: Crowd) -> None:
    first = crowd.key("one")
    usual, low, high, high_too = (crowd.key("one", priority=priority) for priority in (0, -1, 5, 5))
    served = []
    now = first
    for _ in range(4):
        [now] = crowd.end(now)
        served.append(now)
    assert served == [high, high_too, usual, low]


def test_many_wishes_are_one_exchange(crowd: Crowd) -> None:
    wishes = [Asked(("one",), 1, owner, f"run-{owner}") for owner in (1, 2, 3)]
    answers = crowd.table.exchange(1, wishes).answers
    assert [answer.is_granted for answer in answers] == [True, False, False]
    keys = [answer.key for answer in answers]
    assert crowd.table.exchange(1, [keys[1], keys[0]]).granted == [keys[2]]


def test_all_names_are_taken_together_or_none(crowd: Crowd) -> None:
    holder = crowd.key("one")
    both = crowd.key("one", "two")
    # It takes nothing of what is free, so that nobody waits for it.
    assert crowd.ask("two", occupy=2).is_granted
    assert crowd.held() != {holder, both}
    assert crowd.end(holder) == []


def test_two_that_need_the_same_names_in_any_order_do_not_wait_for_each_other(crowd: Crowd) -> None:
    crowd.table.put("b", 1, 0)
    first, second = crowd.key("one", "b"), crowd.key("b", "one")
    assert crowd.held() == {first}
    assert crowd.end(first) == [second]


def test_who_wants_much_is_not_overtaken_for_ever(crowd: Crowd) -> None:
    first = crowd.key("two")
    much = crowd.key("two", occupy=2)
    assert not crowd.ask("two").is_granted
    assert crowd.end(first) == [much]


def test_what_can_never_be_had_is_refused(crowd: Crowd) -> None:
    assert crowd.ask("two", occupy=3).refusal == Refusal("two", 2, lacks_decay=False)
    assert crowd.ask("two", is_rate=True).refusal == Refusal("two", 2, lacks_decay=True)
    crowd.table.put("none", 0, 0)
    assert crowd.ask("two", "none").refusal == Refusal("none", 0, lacks_decay=False)
    assert crowd.held() == set()


def test_what_does_not_exist_limits_nobody_unless_all_are_needed(crowd: Crowd) -> None:
    answer = crowd.ask("nothing")
    assert (answer.key, answer.is_granted, answer.missing) == (None, True, ("nothing",))
    answer = crowd.ask("one", "nothing", needs_all=True)
    assert (answer.key, answer.is_granted, answer.missing) == (None, False, ("nothing",))
    assert crowd.ask("one", "nothing").is_granted
    assert len(crowd.held()) == 1


def test_more_slots_serve_more_at_once_and_fewer_let_go_of_who_is_not_served_any_more(crowd: Crowd) -> None:
    keys = [crowd.key("one") for _ in range(4)]
    crowd.table.put("one", 3, 0)
    assert crowd.held() == set(keys[:3])
    crowd.table.put("one", 0, 0)
    seen = crowd.table.look(1, lives)
    assert (seen.held, seen.waiting) == (set(keys[:3]), set())


def test_a_limit_that_is_removed_holds_nobody_up(crowd: Crowd) -> None:
    crowd.key("one")
    waiting, both = crowd.key("one"), crowd.key("one", "two")
    crowd.table.remove("one")
    assert {waiting, both} <= crowd.held()


# Inside of each other.


def test_who_is_inside_a_holder_takes_turns_at_its_slots(crowd: Crowd) -> None:
    outer = crowd.key("one", owner=100)
    inner = [crowd.key("one", around=frozenset({100})) for _ in range(2)]
    innermost = crowd.key("one", owner=5, around=frozenset({100, 2}))
    assert crowd.held() == {outer, inner[0], innermost}
    assert not crowd.ask("one").is_granted
    assert crowd.end(innermost) == []
    assert crowd.end(inner[0]) == [inner[1]]


def test_no_more_is_lent_than_there_is(crowd: Crowd) -> None:
    outer = crowd.key("two", owner=100)
    much = crowd.ask("two", occupy=2, around=frozenset({100}))
    assert much.is_granted
    assert crowd.ask("two").is_granted
    assert len(crowd.held() - {outer}) == 2


def test_what_was_lent_stays_with_who_goes_on(crowd: Crowd) -> None:
    outer = crowd.key("one", owner=100)
    inner = crowd.key("one", around=frozenset({100}))
    second = crowd.key("one", around=frozenset({100}))
    stranger = crowd.key("one")
    assert crowd.end(outer) == []
    assert crowd.held() == {inner}
    assert crowd.end(inner) == [second]
    assert crowd.end(second) == [stranger]


# Who is gone.


def test_slots_of_a_process_that_is_gone_are_free(crowd: Crowd) -> None:
    theirs, mine = crowd.key("one"), Crowd(crowd.table, process=2).key("one")
    assert crowd.table.look(2, lambda _: True).held == set()
    assert crowd.table.look(1, lives).held == set()
    assert {theirs, mine}.isdisjoint(crowd.held())


def test_where_it_can_not_be_seen_the_lease_decides(crowd: Crowd) -> None:
    with FakeClock() as clock:
        first = crowd.key("one", lease_us=60_000_000)
        waiting = crowd.key("one", lease_us=300_000_000)
        clock.advance(40)
        assert crowd.table.renew(1) == {first}
        clock.advance(59)
        assert crowd.table.look(1, is_unseen).held == {first}
        clock.advance(2)
        assert crowd.table.look(1, lives).held == {first}
        assert crowd.table.look(1, is_unseen).held == {waiting}
        assert crowd.table.renew(1) == {waiting}


def test_the_rule_of_life_joins_process_and_lease() -> None:
    process = this_process()
    assert is_over(process, 10, 5, lambda _: True)
    assert not is_over(process, 10, 15, lives)
    assert is_over(process, 10, 10, is_unseen)
    assert not is_over(process, 10, 9, is_unseen)
    assert is_over(None, 10, 10, lives)


def test_who_holds_and_who_waits_is_listed_the_living_only(crowd: Crowd) -> None:
    crowd.key("two", occupy=2, run=77)
    crowd.key("two", priority=1)
    held, waits = crowd.table.requests(lives)
    assert (held.name, held.occupy, held.label, held.run, held.granted_us is None) == ("two", 2, "run-1", 77, False)
    assert (waits.label, waits.run, waits.priority, waits.granted_us, waits.lender) == ("run-2", 0, 1, None, 0)
    assert held.process == this_process()
    assert crowd.table.requests(lambda _: True) == []
    assert len(crowd.held()) == 1


def test_only_the_owning_process_is_told_apart(crowd: Crowd) -> None:
    other = Crowd(crowd.table, process=2)
    mine, theirs = crowd.key("one"), other.key("one")
    assert crowd.end(mine) == [theirs]
    assert crowd.table.look(1, lives).held == set()
    assert crowd.table.look(2, lives).held == {theirs}


def test_a_change_can_be_noticed(crowd: Crowd) -> None:
    first, second = crowd.key("one"), crowd.key("one")
    before = crowd.table.version()
    assert crowd.table.version() == before
    assert crowd.table.held(1) == {first}
    crowd.end(first)
    assert crowd.table.version() != before
    assert crowd.table.held(1) == {second}


# Rates.


def test_slots_of_a_rate_come_back_with_time(crowd: Crowd) -> None:
    with FakeClock() as clock:
        crowd.table.put("api", 3, 2)
        assert all(crowd.ask("api", is_rate=True).is_granted for _ in range(3))
        late = crowd.key("api", is_rate=True)
        seen = crowd.table.look(1, lives)
        assert late in seen.waiting
        assert seen.due_us is not None
        clock.advance(0.49)
        assert late in crowd.table.look(1, lives).waiting
        clock.advance(0.01)
        assert late in crowd.table.look(1, lives).held
        clock.advance(100)
        granted = [crowd.ask("api", is_rate=True).is_granted for _ in range(4)]
        assert granted == [True, True, True, False]


def test_an_exchange_tells_when_slots_come_back(crowd: Crowd) -> None:
    with FakeClock() as clock:
        crowd.table.put("api", 1, 4)
        crowd.key("api", is_rate=True)
        told = crowd.table.exchange(1, [Asked(("api",), 1, 9, "late", is_rate=True)])
        assert told.due_us == clock.now_us() + 250_000


def test_what_a_block_held_of_a_rate_comes_back_with_time_once_it_is_left(crowd: Crowd) -> None:
    with FakeClock() as clock:
        crowd.table.put("api", 1, 1)
        key = crowd.key("api")
        clock.advance(10)
        waiting = crowd.key("api")
        assert crowd.end(key) == []
        clock.advance(1)
        assert crowd.table.look(1, lives).held == {waiting}


def test_a_clock_that_was_set_back_gives_nothing_away() -> None:
    row = LimitRow("api", 3, 2.0, 3.0, 10_000_000, 0)
    assert row.level_at(9_000_000) == 3.0
    assert row.level_at(11_000_000) == 1.0
    assert row.level_at(99_000_000) == 0.0


# Anything.

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("ask"),
            st.sets(st.sampled_from("abc"), min_size=1).map(sorted),
            st.integers(1, 2),
            st.integers(0, 2),
            st.integers(0, 6),
        ),
        st.tuples(st.just("end"), st.integers(0, 30)),
        st.tuples(st.just("put"), st.sampled_from("abc"), st.integers(0, 3)),
    ),
    max_size=40,
)


@settings(max_examples=30)
@given(steps=STEPS)
def test_both_stores_do_the_same_whatever_is_asked_and_no_slot_is_there_twice(
    steps: list[Any], tmp_path_factory
) -> None:
    stores = (MemoryStore(), SqliteStore(tmp_path_factory.mktemp("limits")))
    crowds = [Crowd(store.limits()) for store in stores]
    slots = dict.fromkeys("abc", 2)
    for one in crowds:
        for name, count in slots.items():
            one.table.put(name, count, 0)
    was_lowered: set[str] = set()
    keys: list[int | None] = []
    for step in steps:
        if step[0] == "ask":
            _, names, occupy, priority, inside = step
            around = frozenset({inside}) if inside else frozenset()
            answers = [one.ask(*names, occupy=occupy, priority=priority, around=around) for one in crowds]
            assert answers[0] == answers[1]
            keys.append(answers[0].key)
        elif step[0] == "end":
            if step[1] < len(keys) and keys[step[1]] is not None:
                granted = [one.end(keys[step[1]]) for one in crowds]
                assert granted[0] == granted[1]
        else:
            slots[step[1]] = step[2]
            was_lowered.add(step[1])
            for one in crowds:
                one.table.put(step[1], step[2], 0)
        seen = [one.table.look(1, lives) for one in crowds]
        assert seen[0] == seen[1]
        rows = crowds[0].table.requests(lives)
        for name in "abc":
            taken = sum(row.occupy for row in rows if row.name == name and row.granted_us and not row.lender)
            assert taken <= slots[name] or name in was_lowered
        for row in rows:
            lent = sum(one.occupy for one in rows if one.lender == row.key and one.name == row.name and one.granted_us)
            assert lent <= row.occupy
    stores[1].close()


DIES = """
import sys
from prefect_core import history
from prefect_core.history.limits import Asked
table, process = history.current().limits()
print(table.exchange(process, [Asked(("one",), 1, 1, "them")]).answers[0].is_granted, flush=True)
sys.stdin.read()
"""


def test_what_a_killed_process_held_is_seen_to_be_free(home: Path) -> None:
    store = SqliteStore(home)
    number = store.next_key() >> 32
    crowd = Crowd(store.limits(), number)
    crowd.table.put("one", 1, 0)
    holder = subprocess.Popen([sys.executable, "-c", DIES], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdin is not None
    assert holder.stdout is not None
    with holder.stdin, holder.stdout:
        assert holder.stdout.readline() == b"True\n"
        waiting = crowd.key("one")
        assert crowd.table.look(number, is_gone).waiting == {waiting}
        holder.kill()
        holder.wait(20)
    assert crowd.table.look(number, is_gone).held == {waiting}
    store.close()
