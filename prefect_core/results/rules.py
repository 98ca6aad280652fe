"""What flows and tasks say of their results, and what holds for a call when all around it has been asked.

Each question is answered by the first who says something: the task (or flow) itself, the run around it, and so on outwards, the settings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from prefect_core import options
from prefect_core.serializers import Serializer, check_serializer, resolve_serializer
from prefect_core.settings import current as settings
from prefect_core.storage import Storage, StorageSpec, check_storage, resolve_storage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from prefect_core.settings import Settings


RESULT_OPTIONS = (
    "persist_result",
    "result_storage",
    "result_serializer",
    "result_storage_key",
    "cache_result_in_memory",
)


_MOST_KNOWN = 256


class ResultRules:
    """What one flow or task says of its results; None for what it leaves to others."""

    __slots__ = ("in_memory", "key_template", "persists", "serializer", "storage")

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Take the options of a decorator. Raises `TypeError` that names the option."""
        self.storage = check_storage(given.get("result_storage"))
        self.serializer = check_serializer(given.get("result_serializer"))
        self.key_template = options.text("result_storage_key", given.get("result_storage_key"))
        self.in_memory = options.flag("cache_result_in_memory", given.get("cache_result_in_memory", True))
        self.persists = options.flag_or_none("persist_result", given.get("persist_result"))
        if self.persists is None and (self.storage or self.serializer or self.key_template or not self.in_memory):
            # Who says where or how means that it is to be kept.
            self.persists = True
        if self.persists:
            global _somebody_stores
            _somebody_stores = True


_somebody_stores = False


def may_be_stored() -> bool:
    """Tell whether any result can be stored in this process: the settings, or some flow or task, ask for it."""
    return _somebody_stores or settings().results_persist_by_default


class Scope:
    """What holds for the calls inside one run: whether results are stored, where and how, and whether calls may be made again.

    `remembers`: a later attempt in this process takes completed calls over, from memory where they are not stored.
    """

    __slots__ = ("_insides", "_plans", "persists", "remembers", "serializer", "storage")

    def __init__(self, persists: bool, storage: Any, serializer: Any, remembers: bool) -> None:
        self.persists = persists
        self.storage = storage
        self.serializer = serializer
        self.remembers = remembers
        self._plans: dict[ResultRules | None, Plan | None] = {}
        self._insides: dict[tuple[ResultRules | None, bool], Scope] = {}

    def inside(self, rules: ResultRules | None, remembers: bool = False) -> Scope:
        """Return the scope inside a run that has rules of its own, or remembers."""
        which = (rules, remembers or self.remembers)
        scope = self._insides.get(which)
        if scope is None:
            _make_room(self._insides)
            scope = self._insides[which] = self._inside(*which)
        return scope

    def _inside(self, rules: ResultRules | None, remembers: bool) -> Scope:
        if rules is None:
            return Scope(self.persists, self.storage, self.serializer, remembers)
        persists = self.persists if rules.persists is None else rules.persists
        return Scope(persists, rules.storage or self.storage, rules.serializer or self.serializer, remembers)

    def says_something(self) -> bool:
        """Tell whether anything is done with the values of calls inside."""
        return self.persists or self.remembers

    def plan(self, rules: ResultRules | None) -> Plan | None:
        """Return what is done with the value of a call that has these rules; None for nothing."""
        try:
            return self._plans[rules]
        except KeyError:
            _make_room(self._plans)
            plan = self._plans[rules] = _plan(self, rules)
            return plan


def _make_room(known: dict[Any, Any]) -> None:
    """Forget what is known of rules once it is much: a program may make tasks, and so rules, without end."""
    if len(known) >= _MOST_KNOWN:
        known.clear()


def rules_of(given: Mapping[str, Any]) -> ResultRules | None:
    """Return what the options of a decorator say of results, or None where they say nothing. Raises `TypeError`."""
    return ResultRules(given) if any(given.get(name) is not None for name in RESULT_OPTIONS) else None


_outermost: tuple[Settings | None, Scope] = (None, Scope(False, None, None, False))


def outermost() -> Scope:
    """Return what holds where no run is around: what the settings say."""
    global _outermost
    now, (then, scope) = settings(), _outermost
    if now is not then:
        scope = Scope(now.results_persist_by_default, None, None, False)
        _outermost = (now, scope)
    return scope


class Plan:
    """What is done with the value of a call."""

    __slots__ = ("_serializer", "_storage", "in_memory", "is_placed", "key_template", "remembers", "stores")

    def __init__(self, scope: Scope, rules: ResultRules | None, stores: bool) -> None:
        self.stores = stores
        self.remembers = scope.remembers
        self.key_template = rules.key_template if rules is not None else None
        self.in_memory = rules is None or rules.in_memory
        self._storage = (rules.storage if rules is not None else None) or scope.storage
        self._serializer = (rules.serializer if rules is not None else None) or scope.serializer
        # Who names a place wants to find it there, so nothing of it is kept inside the history instead.
        self.is_placed = self._storage is not None or self.key_template is not None

    @property
    def storage(self) -> Storage:
        """Where objects go. Raises what `resolve_storage` raises."""
        now = settings()
        return resolve_storage(self._storage or now.results_storage or now.home / "storage")

    @property
    def named_storage(self) -> StorageSpec | None:
        """Where the task or a run around it says that objects go; None where they leave it to the settings."""
        named: StorageSpec | None = self._storage
        return named

    @property
    def serializer(self) -> Serializer:
        """What makes bytes of values. Raises what `resolve_serializer` raises."""
        return resolve_serializer(self._serializer or settings().results_serializer)

    @property
    def most_inside(self) -> int:
        """Bytes that a value may have to be kept inside the history."""
        return -1 if self.is_placed else settings().results_inline_bytes


def _plan(scope: Scope, rules: ResultRules | None) -> Plan | None:
    persists = scope.persists if rules is None or rules.persists is None else rules.persists
    return Plan(scope, rules, persists) if persists or scope.remembers else None
