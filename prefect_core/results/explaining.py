"""Says in words why the result of a call was taken over, or why its body ran, from what the history holds of it."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from prefect_core import clock
from prefect_core.errors import ObjectNotFound
from prefect_core.history.store import RunFilter
from prefect_core.history.stored import VerdictRow
from prefect_core.history.verdicts import AGAIN, DROPPED, TAKEN
from prefect_core.results.comparing import Nearest, difference, nearest
from prefect_core.results.surroundings import Execution, Surroundings
from prefect_core.state_kinds import COMPLETED, FINAL, RUNNING, StateType

if TYPE_CHECKING:
    from prefect_core.history import HistoryStore
    from prefect_core.history.rows import TaskRunRow
    from prefect_core.history.stored import IdentityRow, KeptRow

RAN, DID_NOT_RUN = "ran", "did not run"


class Explanation(NamedTuple):
    """What became of a call: a verdict in few words, and sentences that say why."""

    verdict: str
    """`RAN`, `DID_NOT_RUN`, "taken over", or one of the cache's."""
    sentences: list[str]
    identity: IdentityRow | None
    kept: KeptRow | None
    verdicts: list[VerdictRow]
    nearest: Nearest | None


def explain(store: HistoryStore, row: TaskRunRow) -> Explanation:
    """Explain a task run, or the subflow run that it stands for."""
    return _Explaining(store, row).explanation()


class _Explaining:
    def __init__(self, store: HistoryStore, row: TaskRunRow) -> None:
        self._store = store
        self._row = row
        self._identity = store.identity(row.key)
        self._kept = store.kept(row.key)
        self._verdicts = store.verdicts(row.key)
        self._around = Surroundings(store, row)
        asked = [one for one in self._verdicts if one.verdict != DROPPED]
        self._asked_us = max([row.created_us, *(one.at_us for one in asked)])
        """When the call was made last."""
        execution = self._around.execution_at(self._asked_us)
        self._since_us = execution.began_us if execution is not None else 0
        self._last = [one for one in asked if one.at_us >= self._since_us]
        """What was decided then."""
        self._nearest: Nearest | None = None

    def explanation(self) -> Explanation:
        verdict, sentences = self._what_became_of_it()
        sentences += self._what_is_stored()
        sentences += self._not_called_since()
        return Explanation(verdict, sentences, self._identity, self._kept, self._verdicts, self._nearest)

    def _what_became_of_it(self) -> tuple[str, list[str]]:
        taken = [one for one in self._last if one.verdict == TAKEN]
        if taken:
            since = [one for one in self._last if one.at_us > taken[-1].at_us]
            return TAKEN, [f"Its result was taken over: it {taken[-1].reason}.", *map(_sentence, since)]
        others = [_sentence(one) for one in self._last if one.verdict != AGAIN]
        again = [one.reason for one in self._last if one.verdict == AGAIN]
        if not self._has_run():
            if others:
                return self._last[-1].verdict, others
            return DID_NOT_RUN, [self._why_not_run(), *(f"Its earlier result was not taken: {why}." for why in again)]
        ran = "Its body is running" if self._row.state_type == RUNNING.value else "Its body ran"
        if again:
            return RAN, [f"{ran} again: {again[-1]}.", *others]
        return RAN, [f"{ran}: {self._why_first()}.", *others]

    def _has_run(self) -> bool:
        body = self._row.child_flow_run or self._row.key
        since_us = max(self._row.created_us, self._since_us)
        return any(attempt.started_us >= since_us for attempt in self._store.attempts(body))

    def _why_not_run(self) -> str:
        row = self._row
        message = f": {row.state_message.rstrip('.')}" if row.state_message else ""
        if StateType(row.state_type) not in FINAL and row.state_name != "NotReady":
            return f"Its body has not run yet: it is {row.state_name}{message}."
        return f"Its body did not run: it ended {row.state_name}{message}."

    def _why_first(self) -> str:
        """Say why no earlier result was there to be taken."""
        identity, row = self._identity, self._row
        if row.flow_run is None:
            return "it was called outside of a flow run, and only calls in flow runs are known again"
        if identity is None:
            return self._why_not_asked()
        if identity.problem is not None:
            return f"it can't be known again, since {identity.problem.rstrip('.')}. A key says which call it is: submit(..., key=...)"
        execution = self._around.execution_at(row.created_us)
        if execution is None:
            root = self._around.root
            is_all = root is not None and not self._around.executions
            return "it is the first execution of this call" + (
                f", and {root.name} has not been run again" if root is not None and is_all else ""
            )
        return f"in attempt {execution.attempt} of {execution.run.name}, {self._why_no_match(identity, execution)}"

    def _why_not_asked(self) -> str:
        why = "nothing is stored of its value, as persist_result is off for it"
        if self._row.parent_task_run is not None:
            around = self._store.task_run(self._row.parent_task_run)
            why += f" (or {around.name}, which called it, ran in a worker process, where inner calls are not stored)"
        return f"{why}; so every execution runs it"

    def _why_no_match(self, identity: IdentityRow, execution: Execution) -> str:
        row = self._row
        earlier = self._store.calls_at(self._around.root_flow_run(), identity.site, execution.began_us)
        self._nearest = nearest(self._store, identity, earlier)
        if self._nearest is not None:
            return f"no earlier call is this one: {difference(identity, row, self._nearest, earlier)}"
        new = [one for one in self._around.around if one.created_us >= execution.began_us]
        if new:
            return f"it was called in {new[-1].name}, which is itself new in that attempt"
        if "<" in row.task_key and self._has_other_code(execution):
            return f"{row.task_name} has other code than before, or closes over other values"
        return f"{row.task_name} was not called here before"

    def _has_other_code(self, execution: Execution) -> bool:
        from_here = [
            one
            for one in self._store.task_runs(RunFilter(name=self._row.task_name, flow_run=self._row.flow_run))
            if one.created_us < execution.began_us
        ]
        return any(one.task_key == self._row.task_key for one in from_here)

    def _what_is_stored(self) -> list[str]:
        if self._kept is not None:
            result = self._kept.result
            place = "the history" if result.storage is None else f"{result.storage}/{result.object}"
            return [f"Its value is stored: {result.size:,} bytes by {result.serializer}, in {place}."]
        dropped = [one for one in self._verdicts if one.verdict == DROPPED]
        if dropped:
            when = f"{_moment(dropped[-1].at_us)}, {dropped[-1].reason}"
            return [f"Its stored result was dropped on {when}; when it is called again, its body runs."]
        is_silent = self._row.state_type != COMPLETED.value or (self._identity is None and not self._last)
        return [] if is_silent else ["Nothing is stored of its value."]

    def _not_called_since(self) -> list[str]:
        """Say why the call was not made in the last execution of what is around it."""
        last = self._around.executions[-1] if self._around.executions else None
        if last is None or last.began_us <= self._asked_us:
            return []
        which = f"attempt {last.attempt} of {last.run.name}, on {_moment(last.began_us)}"
        if self._identity is None and self._kept is None and not self._verdicts:
            return [f"Nothing being stored of it, the call is another run in {which}, if it was made there."]
        for one in self._around.around:
            verdicts = [verdict.verdict for verdict in self._store.verdicts(one.key) if verdict.at_us >= last.began_us]
            if TAKEN in verdicts:
                return [f"It was not called in {which}: {one.name}, which calls it, was taken over as a whole."]
        unfinished = [name for name, state in self._inputs() if state != COMPLETED.value]
        if unfinished:
            return [
                f"In {which}, {unfinished[0]} did not complete, which it takes; so its result was not asked for, and stands."
            ]
        return [f"It was not called in {which}."]

    def _inputs(self) -> list[tuple[str, str]]:
        """Return the names and kinds of state of the runs that its arguments come from, as they are now."""
        found = []
        for one in self._row.inputs:
            with suppress(ObjectNotFound):
                run = (self._store.task_run if one.kind == "task_run" else self._store.flow_run)(str(one.id))
                found.append((run.name, run.state_type))
        return found


def _sentence(verdict: VerdictRow) -> str:
    return f"{verdict.verdict.capitalize()}: {verdict.reason.rstrip('.')}."


def _moment(at_us: int) -> str:
    return f"{clock.to_datetime(at_us).astimezone():%Y-%m-%d %H:%M:%S}"
