"""The hooks of a task: options, lists that grow by decorators, and which are called when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_core import options
from prefect_core.options import Hook, TransactionHook
from prefect_core.state_kinds import COMPLETED, FAILED, StateType

_OF_STATES = ("on_completion", "on_failure", "on_running")
_OF_TRANSACTIONS = ("on_commit", "on_rollback")


class TaskHooks:
    """What a task has of hooks."""

    on_completion_hooks: list[Hook]
    on_failure_hooks: list[Hook]
    on_running_hooks: list[Hook]
    on_commit_hooks: list[TransactionHook]
    on_rollback_hooks: list[TransactionHook]

    def _set_hooks(self, given: Mapping[str, Any]) -> None:
        """Take the options of a decorator. Raises `TypeError` that names the option."""
        for name in (*_OF_STATES, *_OF_TRANSACTIONS):
            setattr(self, f"{name}_hooks", options.hooks(name, given.get(name), "task"))

    def _hooks_now(self) -> dict[str, Any]:
        return {name: getattr(self, f"{name}_hooks") for name in (*_OF_STATES, *_OF_TRANSACTIONS)}

    def on_completion(self, hook: Hook) -> Hook:
        """Add a hook that is called when a run completed; usable as a decorator."""
        self.on_completion_hooks.append(hook)
        return hook

    def on_failure(self, hook: Hook) -> Hook:
        """Add a hook that is called when a run failed and has no retries left; usable as a decorator."""
        self.on_failure_hooks.append(hook)
        return hook

    def on_running(self, hook: Hook) -> Hook:
        """Add a hook that is called when a body starts, at each attempt; usable as a decorator."""
        self.on_running_hooks.append(hook)
        return hook

    def on_commit(self, hook: TransactionHook) -> TransactionHook:
        """Add a hook that is called with the run's transaction when that commits; usable as a decorator."""
        self.on_commit_hooks.append(hook)
        return hook

    def on_rollback(self, hook: TransactionHook) -> TransactionHook:
        """Add a hook that is called with the run's transaction when that is rolled back after the body; usable as a decorator."""
        self.on_rollback_hooks.append(hook)
        return hook

    @property
    def has_transaction_hooks(self) -> bool:
        """Whether a run is a transaction that somebody wants to hear of."""
        return bool(self.on_commit_hooks or self.on_rollback_hooks)

    def hooks_for(self, kind: StateType) -> list[Hook]:
        """Return the hooks that are called when a run ends in this kind of state."""
        if kind is COMPLETED:
            return self.on_completion_hooks
        return self.on_failure_hooks if kind is FAILED else []
