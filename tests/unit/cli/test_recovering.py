"""`flow-run resume` of what is not paused, and `recover` where there is nothing to do."""

from __future__ import annotations

import pytest

from prefect_core import flow, history, reexecution
from prefect_core.errors import NotPausedError
from prefect_core.states import Paused

pytestmark = pytest.mark.usefixtures("ran")


def test_a_run_that_is_not_paused_can_not_be_resumed(call):
    called = call("flow-run", "resume", "mishap")
    assert called.code == 1
    assert called.err == (
        "Error: Cannot resume a run that isn't paused! mishap is Failed. To run it again, call `prefect-core flow-run retry mishap`.\n"
    )
    # One that completed can't be retried either.
    completed = call("flow-run", "resume", "shop-3")
    assert completed.err == "Error: Cannot resume a run that isn't paused! shop-3 is Completed.\n"


def test_from_code_the_error_has_its_own_type():
    flow(lambda: Paused(), name="waits")(return_state=True)
    flow(lambda: 1, name="done")()
    with history.reading() as stored:
        [waits] = [row for row in stored.flow_runs() if row.flow_name == "waits"]
        [done] = [row for row in stored.flow_runs() if row.flow_name == "done"]
    reexecution.refuse_unpaused(waits)
    with pytest.raises(NotPausedError, match="Cannot resume a run that isn't paused!"):
        reexecution.refuse_unpaused(done)


def test_there_may_be_nothing_to_recover(call):
    called = call("recover")
    assert (called.code, called.out, called.err) == (0, "", "There is nothing to recover.\n")
    assert call("recover", "--dry-run", "--json").json == {"hooks": [], "runs": []}
    assert call("recover", "--workers", "0").code == 2
