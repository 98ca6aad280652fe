"""Saying a reason in a sentence. Each function returns what follows the name of a run: "has been running for 12 s"."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prefect_core import clock
from prefect_core.reasons import kinds
from prefect_core.settings import current as settings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

_FULL_CHAIN = 4
_NAMED = 3
_BEATS_MISSED = 3
_LONGEST = 300
_UNITS = (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1))


def told(run: kinds.RunRef, reason: kinds.Reason) -> str:
    """Return a run and its reason."""
    return f"{run.name} {_predicate(reason, run)}"


def requested(asker: kinds.Asker) -> str:
    """Return what follows if somebody asked for something and waits for the answer."""
    return f"; {asker.by} asked to {asker.what} it {_ago(asker.at)} and has no answer yet"


def silence(process: kinds.Process, *, has_answered: bool | None) -> str:
    """Return what follows if the process of a run, which lives as far as is known, says nothing; nothing if it does."""
    said = "gave no answer" if has_answered is False else ""
    silent = process.silent_seconds
    if silent is not None and silent > settings().lease_beat_seconds * _BEATS_MISSED:
        said += f"{' and ' if said else ''}was last heard of {span(silent)} ago"
    return f"; its process {_process(process)} {said}" if said else ""


def span(seconds: float) -> str:
    """Return a length of time, in its two greatest units."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    left = round(seconds)
    parts: list[str] = []
    for unit, length in _UNITS:
        count, left = divmod(left, length)
        if count or parts:
            parts.append(f"{count} {unit}" if count else "")
    return " ".join(part for part in parts[:2] if part)


def _predicate(reason: kinds.Reason, run: kinds.RunRef) -> str:
    match reason:
        case kinds.Followed():
            return _followed(reason, run)
        case kinds.Ended():
            return _ended(reason, run.state)
        case kinds.ProcessLost():
            return _lost(reason, run.state)
        case kinds.UpstreamFailed():
            return _upstream_failed(reason)
        case kinds.IsPaused():
            return _paused(reason, run)
        case kinds.WaitingForInput():
            return _awaiting_input(reason, run)
        case kinds.Retry() | kinds.IsScheduled():
            return _scheduled(reason)
    return _not_begun(reason)


def _not_begun(reason: kinds.Reason) -> str:
    match reason:
        case kinds.NoPlace():
            return _no_place(reason)
        case kinds.InChunk(runner=None):
            return "is about to go to its task runner in a chunk, which is being gathered"
        case kinds.InChunk(ahead=ahead, running=running):
            turn = f", of which {running.name} runs" if running is not None else ""
            return f"waits in a chunk of {reason.runner} behind {_count(ahead, 'other')}{turn}"
        case kinds.LateBody(since=since):
            return f"has waited for {_since(since)} for the body of an attempt that timed out, and still runs"
        case kinds.NotBegun(since=since):
            return f"has not begun since it was made {_ago(since)}, and nothing is known that keeps it"
    raise TypeError(f"There are no words for {reason!r}.")


def _followed(reason: kinds.Followed, subject: kinds.RunRef) -> str:
    match reason:
        case kinds.WaitingForRuns(runs=runs, count=count):
            others = f" (and for {_count(count - 1, 'other')})" if count > 1 else ""
            # The one that is followed need not be the first.
            first = reason.chain[0] if reason.chain else runs[0]
            return f"waits for {first.name}{others}{_which(reason)}"
        case kinds.StandsForSubflow(run=run):
            return f"stands for the subflow run {run.name}{_which(reason)}"
        case kinds.WaitingForLimit():
            return _limited(reason)
        case kinds.WaitingForLock(holder=holder):
            whom = holder.name if holder is not None else "somebody in another process, or a block of code,"
            return f"waits for the value of its cache key that is computed by {whom}{_which(reason)}"
        case kinds.IsRunning():
            return _running(reason, subject)
        case kinds.IsCancelling(seconds=seconds, asked=asked):
            who = f", as {asked.by} asked {_ago(asked.at)}" if asked is not None else ""
            return f"has been cancelling for {span(seconds)}{who}{_inside(reason, reason.children)}"
    raise TypeError(f"There are no words for {reason!r}.")


def _which(reason: kinds.Followed) -> str:
    """Return how it goes on behind the first run of a chain."""
    chain, root = reason.chain, reason.root
    if not chain:
        return ""
    told = ""
    links: Sequence[str] = [link.name for link in chain[1:]]
    if len(chain) > _FULL_CHAIN:
        links = [links[0], f"... {len(chain) - _FULL_CHAIN + 1} more ...", links[-1]]
    for link in links:
        told += f", which waits for {link}"
    return told + (f", which {_predicate(root, chain[-1])}" if root is not None else "")


def _running(reason: kinds.IsRunning, run: kinds.RunRef) -> str:
    told = f"has been running for {span(reason.seconds)}"
    if reason.process is not None:
        told += f" in process {_process(reason.process)}"
    if reason.runner:
        told += f", {'with its tasks on' if run.kind == 'flow_run' else 'on'} {reason.runner}"
    if reason.attempt > 1:
        told += f", in attempt {reason.attempt}"
    if reason.has_returned:
        told += "; its body has ended"
    return told + _inside(reason, reason.children)


def _inside(reason: kinds.Followed, children: dict[str, int]) -> str:
    counted = ", ".join(f"{count:,} {state}" for state, count in sorted(children.items()))
    told = f"; of the runs in it, {counted}" if counted else ""
    if not reason.chain:
        return told
    names = [link.name for link in reason.chain]
    return f"{told}: {names[0]}{_further(reason)}"


def _further(reason: kinds.Followed) -> str:
    if len(reason.chain) == 1:
        return f" {_predicate(reason.root, reason.chain[0])}" if reason.root is not None else " is open"
    waits = _which(reason).removeprefix(", which ")
    return f" {waits}"


def _ended(reason: kinds.Ended, state: str) -> str:
    verb = {"Completed": "completed", "Failed": "failed", "Crashed": "crashed", "Cancelled": "was cancelled"}.get(state)
    told = f"{verb or f'ended {state}'} at {_at(reason.at)}"
    if reason.seconds is not None:
        told += f" after {span(reason.seconds)}"
    if reason.attempts > 1:
        told += f" and {reason.attempts} attempts"
    if reason.asked is not None:
        told += f", as {reason.asked.by} asked"
    if reason.message and state != "Completed":
        told += f": {_text(reason.message)}"
    if reason.first_failure is not None:
        told += f"; the first failure in it is that of {_failure(reason.first_failure)}"
    return told


def _failure(failure: kinds.Failure) -> str:
    told = f"{failure.run.name}, {failure.run.state}"
    return f"{told}: {_text(failure.message)}" if failure.message else told


def _lost(reason: kinds.ProcessLost, state: str) -> str:
    process = f" {_process(reason.process)}" if reason.process is not None else ""
    heard = f", last heard of at {_at(reason.last_heard)}" if reason.last_heard is not None else ""
    told = (
        f"ended {state} since its process{process} ended without a word{heard}; that was found at {_at(reason.found)}"
    )
    if not reason.is_left_alone:
        return told
    return (
        f"{told}. That came again and again without progress in between, so it is left alone: only "
        "`prefect-core flow-run retry` runs it again"
    )


def _upstream_failed(reason: kinds.UpstreamFailed) -> str:
    if reason.upstream is None:
        return "will not run, since an input did not complete"
    told = f"will not run, since its input {reason.upstream.name} did not complete"
    if reason.failure is None:
        return told
    if reason.failure.run.id == reason.upstream.id:
        return f"{told} ({reason.failure.run.state}: {_text(reason.failure.message or 'no message')})"
    return f"{told}, which goes back to {_failure(reason.failure)}"


def _paused(reason: kinds.IsPaused, run: kinds.RunRef) -> str:
    around = f" with {reason.run.name}" if reason.run.id != run.id else ""
    told = f"is {'suspended' if reason.is_suspended else 'paused'}{around} since {_at(reason.since)}"
    if reason.key:
        told += f" by the pause {reason.key!r}"
    if reason.until is not None:
        told += f", and can be resumed until {_at(reason.until)}"
    return f"{told}: {_text(reason.message)}" if reason.message else told


def _awaiting_input(reason: kinds.WaitingForInput, run: kinds.RunRef) -> str:
    to = "" if reason.flow_run in (run.id, run.name) else f" to {reason.flow_run}"
    until = f", until {_at(reason.until)}" if reason.until is not None else ""
    return f"has waited for {_since(reason.since)} for an input{to} with the key {' or '.join(reason.channels)}{until}"


def _limited(reason: kinds.WaitingForLimit) -> str:
    told = f"waits for {' and for '.join(map(_limit, reason.limits))}"
    if not reason.chain:
        return told
    limit = reason.limits[-1]
    if len(reason.limits) == 1 and limit.holder_count == 1 and not limit.ahead:
        return told + _which(reason)
    return f"{told}; {reason.chain[0].name}{_further(reason)}"


def _limit(limit: kinds.FullLimit) -> str:
    told = f"{_count(limit.wanted, 'slot')} of the limit {limit.name!r}, which has {limit.slots:,}"
    if limit.decay_per_second:
        told += f" (and {limit.decay_per_second:g} a second come back)"
    names = [f"{one.name} ({_process(one.process)}, for {_since(one.since)})" for one in limit.holders[:_NAMED]]
    if names:
        told += f", held by {_listed(names, limit.holder_count)}"
    return f"{told}, behind {_count(limit.ahead, 'other')}" if limit.ahead else told


def _scheduled(reason: kinds.Retry | kinds.IsScheduled) -> str:
    if isinstance(reason, kinds.IsScheduled):
        return f"is not to start before {_at(reason.due)}" if reason.due is not None else "is scheduled"
    when = f"in {span(reason.seconds)}" if reason.seconds else "at once"
    after = f", after attempt {reason.attempts} failed"
    return (
        f"will be tried again {when}{after}: {_text(reason.message)}"
        if reason.message
        else f"will be tried again {when}{after}"
    )


def _no_place(reason: kinds.NoPlace) -> str:
    needs = ", ".join(f"{amount:g} {name}" for name, amount in reason.resources.items())
    told = f"waits for a place{f' with {needs}' if needs else ''} in {reason.runner}"
    if not reason.running_count:
        return f"{told}, which runs nothing else of this flow run"
    return f"{told}, which runs {_listed([one.name for one in reason.running[:_NAMED]], reason.running_count)}"


def _listed(names: list[str], count: int) -> str:
    more = [f"{count - len(names):,} more"] if count > len(names) else []
    *before, last = [*names, *more]
    return f"{', '.join(before)} and {last}" if before else last


def _process(process: kinds.Process | None) -> str:
    return f"{process.host}:{process.pid}" if process is not None else "an unknown process"


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def _text(message: str) -> str:
    """Return a message on one line, without the end that the sentence has."""
    text = " ".join(message.split()).rstrip(".")
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _at(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _since(moment: datetime) -> str:
    return span(max(0.0, (clock.now_us() - clock.from_datetime(moment)) / 1_000_000))


def _ago(moment: datetime) -> str:
    return f"{_since(moment)} ago"
