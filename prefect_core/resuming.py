"""Resuming a paused flow run: one that is held goes on in its process; one that is suspended is run again from the top, by whoever gets it.

What is stored of it is taken over, and the calls of pauses that have fired return at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from prefect_core import errors, history, input_forms, reexecution
from prefect_core.control import asking
from prefect_core.control.reaping import reap
from prefect_core.engine.pausing_asked import ELSEWHERE, INVALID, NOT_PAUSED
from prefect_core.errors import FlowPauseTimeout, NotAnswering, NotPausedError, NotRunnableAgain, PrefectException
from prefect_core.history.process import is_gone, this_user
from prefect_core.history.store import IN_MEMORY
from prefect_core.reexecution import Again
from prefect_core.state_kinds import FAILED, PAUSED

if TYPE_CHECKING:
    from prefect_core.history import HistoryStore
    from prefect_core.history.pauses import PauseRow
    from prefect_core.history.rows import FlowRunRow
    from prefect_core.history.stored import Reopened

NOT_A_PAUSED_RUN = "Cannot resume a run that isn't paused!"
TOO_LATE = "Flow run can no longer be resumed."
_KINDS: dict[str, type[Exception]] = {"InvalidInput": input_forms.InvalidInput}
_ROUND_SECONDS = 0.02
_COMMAND = "from prefect_core.cli.resuming import serve; serve()"


class Found:
    """A paused flow run, and the pause that it is in (None: its function returned the state)."""

    def __init__(self, stored: HistoryStore, name: str | int) -> None:
        """Find it by id, start of an id or name. Raises `ObjectNotFound`, `NotPausedError`, `FlowPauseTimeout`."""
        reap(stored.control())
        self.row: FlowRunRow = stored.flow_run(name)
        pauses = stored.control().pauses(self.row.key)
        last = pauses[-1] if pauses else None
        if self.row.state_type == FAILED.value and last is not None and last.is_suspended and last.is_open:
            raise FlowPauseTimeout(TOO_LATE)
        if self.row.state_type != PAUSED.value:
            raise NotPausedError(NOT_A_PAUSED_RUN)
        self.pause: PauseRow | None = last if last is not None and last.is_open else None

    @property
    def is_held(self) -> bool:
        """Whether a process waits for the resume."""
        return self.pause is not None and not self.pause.is_suspended

    @property
    def form(self) -> str | None:
        return self.pause.form if self.pause is not None else None


def wake(stored: HistoryStore, found: Found, given: str | None) -> bool:
    """Let a run that is held go on, with an answer (JSON). False if it ended, or its process did.

    Raises `InvalidInput`, and then it stays paused; `NotPausedError`; or `NotAnswering` of a process that lives.
    """
    row = found.row
    request = asking.ask_about(stored, row, "resume", {"input": given})
    try:
        told = asking.await_answer_or_withdraw(stored, request)
    except NotAnswering as error:
        raise NotAnswering(f"{row.name} could not be resumed. {error}") from None
    if told.over is not None or ELSEWHERE in told.answer:
        return False
    if INVALID in told.answer:
        raise input_forms.InvalidInput(told.answer[INVALID])
    if NOT_PAUSED in told.answer:
        raise NotPausedError(told.answer[NOT_PAUSED])
    if "error" in told.answer:
        raise PrefectException(f"{row.name} could not be resumed: {told.answer['error']}")
    return True


def prepared(found: Found, given: str | None) -> tuple[Again, str | None]:
    """Load the flow of a suspended run, and check an answer (JSON); returns what is to be called, and the answer that is kept.

    Raises `InvalidInput`, `NotRunnableAgain`, or what loading the entry point raises.
    """
    with history.reading() as stored:
        again = reexecution.load(stored, found.row)
    # After the flow was loaded: a form may be made of a class in its file.
    return again, input_forms.check(found.form, given)


def resumed(again: Again, given: str | None) -> AbstractContextManager[None]:
    """Claim a suspended run for this process; the first flow that is called in the block goes on with it.

    Of several that do so at once, one gets it; the others, and whoever comes before its process has left it, get `NotPausedError` or
    `NotRunnableAgain`.
    """

    def claim(store: HistoryStore, process: int) -> Reopened:
        return store.control().resume_run(again.row.key, process, this_user(), given, is_gone)

    return reexecution.claimed(again, claim)


def await_left(found: Found) -> None:
    """Block while the process that suspended a run is about to leave it."""
    pause, key = found.pause, found.row.key
    between = threading.Event()
    with history.reading() as stored:
        control = stored.control()
        while pause is not None and pause.left_us is None and pause.is_open:
            lease = control.lease(control.owner(key))
            if lease is None or lease.let_go_us is not None or lease.taken_by is not None:
                return
            if is_gone(lease.process) is not False:
                return
            between.wait(_ROUND_SECONDS)
            pause = next((one for one in control.pauses(key) if one.paused_us == pause.paused_us), None)


def resume(name: str | int, given: Mapping[str, Any] | Any | None = None) -> None:
    """Resume a run, wherever it goes on: where it is held, or in a new process, which has it when this returns.

    Raises `ObjectNotFound`, `NotPausedError`, `FlowPauseTimeout`, `InvalidInput`, `NotRunnableAgain`.
    """
    answer = input_forms.answer_text(given)
    with history.reading() as stored:
        found = Found(stored, name)
        if found.is_held:
            if not wake(stored, found, answer):
                raise NotPausedError(NOT_A_PAUSED_RUN)
            return
        if not stored.is_shared:
            raise NotRunnableAgain(IN_MEMORY)
    if input_forms.check(found.form, answer) is None and answer not in (None, "{}"):
        raise input_forms.InvalidInput("Reason: the paused run waits for no input.")
    _in_new_process({"run": str(found.row.id), "input": answer})


def _in_new_process(order: Mapping[str, Any]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", _COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # What ends this process and its terminal does not end that one.
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, map(os.path.abspath, sys.path)))},
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process.stdin, process.stdout:
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
        said = process.stdout.readline()
    # Nobody waits for its end; so that it is no zombie until then.
    threading.Thread(target=process.wait, name="prefect_core-resumed", daemon=True).start()
    if not said:
        raise NotRunnableAgain(
            "The process that was to go on with the run ended before it had it; its errors stand above."
        )
    told = json.loads(said)
    if told is not None:
        kind: type[Exception] = getattr(errors, told["type"], None) or _KINDS.get(told["type"], PrefectException)
        raise kind(told["text"])
