"""Cache policies: from what the key is made under which the result of a call is found by later calls, in other runs too.

    INPUTS             the arguments; `INPUTS - "name"` leaves one out
    TASK_SOURCE        the code of the task's function, and what a lambda or local function closes over
    FLOW_PARAMETERS    the parameters of the flow run around the call
    RUN_ID             the flow run around the call; outside of flows the task run, so that nothing is found
    A + B              all that both are made from
    NO_CACHE, NONE     nothing: no caching
    DEFAULT            INPUTS + TASK_SOURCE + RUN_ID

Keys are digests by `encoding`: the same in every process. A policy of this module never lets two tasks find each other's results: the
task itself always joins the key (`address`, `task_sites`). A function of your own (`cache_key_fn`) and a policy class of your own decide
that themselves.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self, cast

from prefect_core import encoding
from prefect_core.locking import DatabaseLockManager, IsolationLevel, LockManager
from prefect_core.task_sites import site_of

if TYPE_CHECKING:
    from prefect_core.context import TaskRunContext
    from prefect_core.storage import StorageSpec

CacheKeyFn = Callable[["TaskRunContext", dict[str, Any]], str | None]
"""Called with the context of the task run and its parameters, resolved; returns the key, or None for no caching."""
_LONGEST = 256
_database = DatabaseLockManager()
_log = logging.getLogger("prefect_core.tasks")


@dataclass
class CachePolicy:
    """The base of all policies. One of your own overrides `compute_key`."""

    key_storage: StorageSpec | None = field(default=None, kw_only=True)
    isolation_level: IsolationLevel | None = field(default=None, kw_only=True)
    lock_manager: LockManager | None = field(default=None, kw_only=True)

    is_of_one_task: ClassVar[bool] = False
    """Whether the task joins the key, so that no other task finds the result."""

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any] | None
    ) -> str | None:
        """Return the key of a call, or None for no caching. Raises `NotEncodable` for what has no stable encoding."""
        raise TypeError(f"{type(self).__name__} is a cache policy without a method `compute_key`; give it one.")

    @classmethod
    def from_cache_key_fn(cls, cache_key_fn: CacheKeyFn) -> CacheKeyFnPolicy:
        """Make a policy of a function that returns keys."""
        return CacheKeyFnPolicy(cache_key_fn)

    def configure(
        self,
        key_storage: StorageSpec | None = None,
        lock_manager: LockManager | None = None,
        isolation_level: IsolationLevel | None = None,
    ) -> Self:
        """Return a copy with some of these changed.

        `key_storage` is a folder or URL where keys are kept in place of the history, so that processes with other histories find them.
        `isolation_level` says what runs with one key may do at once, and `lock_manager` (by default the history) keeps them apart.
        """
        changed = copy.copy(self)
        changed.key_storage = key_storage if key_storage is not None else self.key_storage
        changed.lock_manager = lock_manager if lock_manager is not None else self.lock_manager
        changed.isolation_level = isolation_level if isolation_level is not None else self.isolation_level
        return changed

    @property
    def is_serializable(self) -> bool:
        """Whether of several calls with one key only one computes at a time."""
        return self.isolation_level is IsolationLevel.SERIALIZABLE

    @property
    def locks(self) -> LockManager:
        """What keeps those apart."""
        return self.lock_manager or _database

    def __add__(self, other: CachePolicy) -> CachePolicy:
        if not isinstance(other, CachePolicy):
            return NotImplemented
        if isinstance(other, _None):
            return self
        for name, what in _CONFIGURED.items():
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is not None and theirs is not None and mine != theirs:
                raise ValueError(f"Cannot add CachePolicies with different {what}.")
        return CompoundCachePolicy(
            [*_parts_of(self), *_parts_of(other)],
            **{name: getattr(self, name) or getattr(other, name) for name in _CONFIGURED},
        )

    def __sub__(self, name: str) -> CachePolicy:
        """Leave an argument out. A policy that looks at no arguments stays as it is."""
        _check_name(name)
        return self


_CONFIGURED = {
    "key_storage": "storage locations",
    "isolation_level": "isolation levels",
    "lock_manager": "lock implementations",
}


def _check_name(name: object) -> None:
    if not isinstance(name, str):
        raise TypeError("Can only subtract strings from key policies.")


@dataclass
class CacheKeyFnPolicy(CachePolicy):
    """The key is what a function returns."""

    cache_key_fn: CacheKeyFn | None = None

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any] | None
    ) -> str | None:
        return self.cache_key_fn(task_ctx, inputs) if self.cache_key_fn is not None else None


@dataclass
class CompoundCachePolicy(CachePolicy):
    """The key is made from those of several policies; None if all of them are."""

    policies: list[CachePolicy] = field(default_factory=list)

    is_of_one_task: ClassVar[bool] = True

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any] | None
    ) -> str | None:
        keys = [policy.compute_key(task_ctx, inputs, flow_parameters) for policy in self.policies]
        # With the missing ones in their places: what one policy gives must not stand for what another does.
        return None if all(key is None for key in keys) else _digest(keys)

    def __sub__(self, name: str) -> CachePolicy:
        _check_name(name)
        changed = copy.copy(self)
        changed.policies = [policy - name for policy in self.policies]
        if not any(isinstance(policy, Inputs) for policy in self.policies):
            changed.policies.append(Inputs([name]))
        return changed


def _parts_of(policy: CachePolicy) -> list[CachePolicy]:
    if not isinstance(policy, CompoundCachePolicy):
        return [policy]
    return list(policy.policies)


@dataclass
class Inputs(CachePolicy):
    """The arguments of the call, but for those that are excluded; None for a task that takes none."""

    exclude: list[str] = field(default_factory=list)

    is_of_one_task: ClassVar[bool] = True

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any] | None
    ) -> str | None:
        if not inputs:
            return None
        return _digest({name: value for name, value in inputs.items() if name not in self.exclude})

    def __sub__(self, name: str) -> CachePolicy:
        _check_name(name)
        changed = copy.copy(self)
        changed.exclude = [*self.exclude, name]
        return changed


@dataclass
class TaskSource(CachePolicy):
    """The code of the task's function."""

    is_of_one_task: ClassVar[bool] = True

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any] | None, flow_parameters: dict[str, Any] | None
    ) -> str | None:
        return _digest((encoding.code_digest(task_ctx.task.fn), task_ctx.task.closure))


@dataclass
class FlowParameters(CachePolicy):
    """The parameters of the flow run around the call; None outside of flows, and in a flow that takes none."""

    is_of_one_task: ClassVar[bool] = True

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any] | None
    ) -> str | None:
        return _digest(flow_parameters) if flow_parameters else None


@dataclass
class RunId(CachePolicy):
    """The id of the flow run around the call, or of the task run where there is none."""

    is_of_one_task: ClassVar[bool] = True

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any] | None
    ) -> str | None:
        return str(task_ctx.task_run.flow_run_id or task_ctx.task_run.id)


@dataclass
class _None(CachePolicy):
    """Nothing is cached; adding it to another policy changes nothing."""

    def compute_key(
        self, task_ctx: TaskRunContext, inputs: dict[str, Any], flow_parameters: dict[str, Any] | None
    ) -> str | None:
        return None

    def __add__(self, other: CachePolicy) -> CachePolicy:
        return other


INPUTS = Inputs()
NO_CACHE = NONE = _None()
TASK_SOURCE = TaskSource()
FLOW_PARAMETERS = FlowParameters()
RUN_ID = RunId()
DEFAULT = INPUTS + TASK_SOURCE + RUN_ID


def _digest(value: object) -> str:
    return encoding.digest(value).hex()


def task_input_hash(context: TaskRunContext, arguments: dict[str, Any]) -> str | None:
    """Return a key made from the task, its code and its arguments; to be given as `cache_key_fn`.

    Raises `NotEncodable` for an argument that has no stable encoding.
    """
    task = context.task
    return _digest((site_of(task), encoding.code_digest(task.fn), arguments))


def address(policy: CachePolicy, task: Any, key: str) -> str:
    """Return under which name a key of a task is kept. Raises `NotEncodable` for a task that can't be told from others."""
    if not policy.is_of_one_task:
        return address_of(key)
    return f"task:{_digest((site_of(task), key))}"


def address_of(key: str) -> str:
    """Return under which name a key is kept that somebody has chosen: itself, or its SHA-256 if it is long or no plain text."""
    if len(key) <= _LONGEST and key.isprintable() and not key.startswith(("task:", "sha256:")):
        return key
    return f"sha256:{sha256(key.encode('utf-8', 'surrogatepass')).hexdigest()}"


class Chosen(NamedTuple):
    """What the options of a task say of caching."""

    policy: CachePolicy
    persists: bool | None
    """The option `persist_result`; True if it was not given and results have to be stored to be cached."""
    is_why_stored: bool
    """Whether that is why."""


_STORING = ("persist_result", "result_storage", "result_serializer", "result_storage_key")


def chosen_policy(given: Mapping[str, Any], name: str) -> Chosen:
    """Return the cache policy that the options of a task mean. Raises `TypeError`; warns of options that don't go together."""
    policy, persists = _policy_of(given, name), given.get("persist_result")
    if not is_real(policy):
        return Chosen(NO_CACHE, persists, is_why_stored=False)
    if persists is False:
        _log.warning("Ignoring `cache_policy` because `persist_result` is False (task %r).", name)
        return Chosen(NO_CACHE, persists, is_why_stored=False)
    is_why = all(given.get(option) is None for option in _STORING) and given.get("cache_result_in_memory", True)
    return Chosen(policy, True, is_why_stored=is_why)


def _policy_of(given: Mapping[str, Any], name: str) -> CachePolicy:
    policy, key_fn = given.get("cache_policy"), given.get("cache_key_fn")
    if policy is not None and not isinstance(policy, CachePolicy):
        raise TypeError(
            f"Expected a cache policy for 'cache_policy', such as INPUTS or NO_CACHE from prefect_core.cache_policies; got {policy!r}."
        )
    if key_fn is None:
        return policy or NO_CACHE
    if not callable(key_fn):
        raise TypeError(f"Expected a callable for 'cache_key_fn'; got {key_fn!r}.")
    if policy is not None:
        _log.warning(
            "Both `cache_policy` and `cache_key_fn` are set on task %r. `cache_key_fn` will be used.",
            name,
        )
    return CacheKeyFnPolicy(cast("CacheKeyFn", key_fn))


def is_real(policy: CachePolicy) -> bool:
    """Tell whether a policy caches anything."""
    return not isinstance(policy, _None)


def checked_expiration(given: Any) -> timedelta | None:
    """Return the option `cache_expiration`. Raises `TypeError` or `ValueError`."""
    if given is None:
        return None
    if not isinstance(given, timedelta):
        raise TypeError(f"Expected a timedelta for 'cache_expiration'; got {given!r}.")
    if given <= timedelta(0):
        raise ValueError(f"'cache_expiration' must be longer than no time, or None for never; got {given!r}.")
    return given
