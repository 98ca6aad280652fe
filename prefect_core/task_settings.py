"""What a task was told: its options, checked, and what its lifecycle asks of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

from prefect_core import options
from prefect_core.cache_policies import CacheKeyFn, CachePolicy, checked_expiration, chosen_policy, is_real
from prefect_core.context import RunContext
from prefect_core.encoding import code_digest
from prefect_core.options import SharedOptions, TransactionHook
from prefect_core.placement import checked_priority, checked_resources
from prefect_core.results.rules import rules_of
from prefect_core.retry_delays import RetryDelay, checked_delays, checked_jitter, jittered
from prefect_core.settings import current as settings
from prefect_core.states import State
from prefect_core.task_hooks import TaskHooks
from prefect_core.task_runners import check_runner
from prefect_core.task_sites import closure_of

if TYPE_CHECKING:
    from datetime import timedelta

    from prefect_core.runs import TaskRun
    from prefect_core.task_runners import RunnerSpec


class TaskOptions(SharedOptions, total=False):
    """What `@task` and `Task.with_options` take. An option that is left out has the default, or in `with_options` its old value."""

    tags: Iterable[str] | None
    task_run_name: str | Callable[..., str] | None
    retry_delay_seconds: RetryDelay | None
    retry_jitter_factor: float | None
    retry_condition_fn: Callable[[Any, TaskRun, State], Any] | None
    retries_on_crash: int | None
    resources: Mapping[str, float | str] | None
    priority: int | None
    task_runner: RunnerSpec | None
    isolation: Literal["process"] | None
    cache_policy: CachePolicy | None
    cache_key_fn: CacheKeyFn | None
    cache_expiration: timedelta | None
    refresh_cache: bool | None
    key: str | None
    on_commit: Iterable[TransactionHook] | None
    on_rollback: Iterable[TransactionHook] | None


class TaskSettings(TaskHooks):
    """The part of a task that its options make."""

    fn: Any
    name: str
    is_generator: bool

    def _take_options(self, given: TaskOptions) -> None:
        """Check and take all but the name, once the function is known."""
        self.description = options.described_as(self.fn, given.get("description"))
        self.version = given.get("version")
        self.tags = _checked_tags(given.get("tags"))
        self.task_run_name = options.run_name("task_run_name", given.get("task_run_name"))
        self.task_runner: RunnerSpec | None = check_runner(given.get("task_runner"))
        self.isolation = self._checked_isolation(given.get("isolation"))
        self.resources = checked_resources(given.get("resources"))
        self.priority = checked_priority(given.get("priority"))
        self.log_prints = given.get("log_prints")
        self.timeout_seconds = options.timeout("timeout_seconds", given.get("timeout_seconds"))
        self._set_retries(given)
        self._set_results(given)
        self._set_hooks(given)
        self._given = given
        self._refuse_unknown(given)

    @staticmethod
    def _refuse_unknown(given: TaskOptions) -> None:
        unknown = sorted(set(given) - set(TaskOptions.__annotations__) - set(SharedOptions.__annotations__))
        if unknown:
            raise TypeError(f"@task takes no option {', '.join(map(repr, unknown))}.")

    def _checked_isolation(self, isolation: Any) -> Literal["process"] | None:
        if isolation is None:
            return None
        if isolation != "process":
            raise ValueError(f"'isolation' must be \"process\" or None; got {isolation!r}.")
        if self.is_generator:
            raise ValueError(
                f"'isolation' can't be {isolation!r} for a generator task: a value that it yields would have to leave a body that goes on "
                "in another process. Return a list."
            )
        return "process"

    def _set_retries(self, given: TaskOptions) -> None:
        retries = given.get("retries")
        self.retries = settings().task_default_retries if retries is None else options.whole_number("retries", retries)
        self.retry_delay_seconds = checked_delays(given.get("retry_delay_seconds"), self.retries)
        self.retry_jitter_factor = checked_jitter(given.get("retry_jitter_factor"))
        condition = given.get("retry_condition_fn")
        if condition is not None and not callable(condition):
            raise TypeError(f"Expected `retry_condition_fn` to be callable, got {type(condition).__name__} instead.")
        self.retry_condition_fn = condition
        crashes = given.get("retries_on_crash")
        self.retries_on_crash = None if crashes is None else options.whole_number("retries_on_crash", crashes)

    def _set_results(self, given: TaskOptions) -> None:
        asked = chosen_policy(given, self.name)
        self.cache_policy = asked.policy
        self.cache_key_fn = given.get("cache_key_fn")
        self.cache_expiration = checked_expiration(given.get("cache_expiration"))
        self.result_rules = rules_of({**given, "persist_result": asked.persists})
        self.closure = closure_of(self.fn) if is_real(self.cache_policy) else b""
        """What tells the function from others with its code, for the cache."""
        self.stores_for_cache = asked.is_why_stored
        """Whether results are stored for the cache alone."""
        self.key = options.text("key", given.get("key"))
        self.refresh_cache = options.flag_or_none("refresh_cache", given.get("refresh_cache"))
        if self.is_generator and asked.persists:
            option = "persist_result" if given.get("persist_result") else "cache_policy"
            raise ValueError(
                f"{option!r} has nothing to store of a generator task, which yields its values one by one."
            )

    @cached_property
    def code(self) -> bytes:
        """A digest of the function's code, by which a changed body is noticed."""
        return code_digest(self.fn)

    @property
    def caching_policy(self) -> CachePolicy | None:
        """The policy that counts now; None if nothing is cached."""
        return self.cache_policy if is_real(self.cache_policy) and not settings().tasks_disable_caching else None

    @property
    def refreshes_cache(self) -> bool:
        """Whether earlier results are left alone and replaced."""
        return settings().tasks_refresh_cache if self.refresh_cache is None else self.refresh_cache

    # What the lifecycle asks.

    def logs_prints(self, parent: RunContext | None) -> bool:
        """Tell whether `print` in a run is logged: as the task says, else as the run around it does, else as the setting does."""
        if self.log_prints is not None:
            return self.log_prints
        return parent.log_prints if parent is not None else settings().log_prints

    def run_name_for(self, parameters: dict[str, Any]) -> str:
        """Return the name of a run with these parameters."""
        assert self.task_run_name is not None
        return options.name_from("task_run_name", self.task_run_name, parameters)

    def retry_delay(self, retry: int) -> float:
        """Return the seconds before a retry, counted from 0; the last delay of a list repeats."""
        delays = self.retry_delay_seconds
        if isinstance(delays, list):
            delay = delays[min(retry, len(delays) - 1)] if delays else 0.0
        else:
            delay = delays
        return jittered(delay, self.retry_jitter_factor) if self.retry_jitter_factor and delay else delay


def _checked_tags(tags: Iterable[str] | None) -> frozenset[str]:
    if isinstance(tags, str):
        raise TypeError(f"Expected a list of strings for 'tags'; got the string {tags!r}. Write tags=[{tags!r}].")
    return frozenset(tags or ())
