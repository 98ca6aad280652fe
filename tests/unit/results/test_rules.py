"""What holds for calls where the settings or the runs around say something, found again without being made again."""

from __future__ import annotations

from prefect_core.results.rules import ResultRules, Scope, outermost
from prefect_core.settings import temporary_settings


def test_what_holds_outside_of_all_runs_follows_the_settings() -> None:
    before = outermost()
    assert outermost() is before
    with temporary_settings(results_persist_by_default=True):
        assert outermost().persists
        assert outermost().plan(None) is not None
    assert not outermost().persists
    assert outermost().plan(None) is None


def test_the_same_rules_in_the_same_scope_have_the_same_plan_and_scope() -> None:
    scope, rules = Scope(False, None, None, False), ResultRules({"persist_result": True})
    plan = scope.plan(rules)
    assert plan is not None
    assert plan is scope.plan(rules)
    inside = scope.inside(rules)
    assert inside.persists
    assert inside is scope.inside(rules)
    assert inside is not scope.inside(rules, remembers=True)
    assert scope.inside(rules, remembers=True).remembers


def test_a_program_that_makes_rules_without_end_does_not_fill_the_memory() -> None:
    scope = Scope(False, None, None, False)
    for _ in range(2_000):
        rules = ResultRules({"persist_result": True})
        assert scope.plan(rules) is scope.plan(rules)
        assert scope.inside(rules) is scope.inside(rules)
    assert max(len(scope._plans), len(scope._insides)) < 1_000
