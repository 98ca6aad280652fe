"""Every code sample of the document of the 2.x line, run as it stands; but for stored results, pauses, deployments, notifications."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from prefect_core import history
from prefect_core.history.rows import FlowRunRow, TaskRunRow
from tests.acceptance.sample_scripts import Outcome, run_script


@pytest.fixture
def run(tmp_path: Path):
    """Run a sample as a script in a folder of its own."""
    return lambda code, **others: run_script(tmp_path, code, **others)


def flow_runs() -> list[FlowRunRow]:
    """Return the flow runs that the script left in the history, oldest first."""
    store = history.open_store()
    try:
        return store.flow_runs()[::-1]
    finally:
        store.close()


def task_runs() -> list[TaskRunRow]:
    store = history.open_store()
    try:
        return store.task_runs()[::-1]
    finally:
        store.close()


def ended(row: FlowRunRow | TaskRunRow) -> tuple[str, str, str | None]:
    return row.name, row.state_type, row.state_message


def assert_runs(outcome: Outcome) -> None:
    assert (outcome.code, outcome.lines) == (0, [])


# Writing flows.


def test_a_flow_that_only_returns_is_a_flow(run) -> None:
    assert_runs(
        run("""
from prefect_core import flow

@flow
def my_flow():
    return

assert my_flow.name == "my-flow"
""")
    )


def test_a_flow_has_the_name_it_is_given(run) -> None:
    assert_runs(
        run("""
from prefect_core import flow

@flow(name="My Flow")
def my_flow():
    return

assert my_flow.name == "My Flow"
""")
    )


def test_a_flow_calls_a_task(run) -> None:
    outcome = run("""
from prefect_core import flow, task

@task
def print_hello(name):
    print(f"Hello {name}!")

@flow(name="Hello Flow")
def hello_world(name="world"):
    print_hello(name)

hello_world()
""")
    assert outcome.code == 0
    assert "Hello world!" in outcome.lines
    assert [ended(row) for row in task_runs()] == [("print_hello-0", "COMPLETED", None)]


@pytest.mark.parametrize(
    ("decoration", "docstring"),
    [
        ('description="My flow using SequentialTaskRunner",\n      ', ""),
        ("", '    """My flow using SequentialTaskRunner"""\n'),
    ],
    ids=["as an option", "as a docstring"],
)
def test_a_flow_has_a_description_and_a_task_runner(run, decoration: str, docstring: str) -> None:
    outcome = run(f"""
from prefect_core import flow
from prefect_core.task_runners import SequentialTaskRunner

@flow(name="My Flow",
      {decoration}task_runner=SequentialTaskRunner())
def my_flow():
{docstring}    return

assert my_flow.description == "My flow using SequentialTaskRunner"
my_flow()
""")
    assert outcome.code == 0
    assert outcome.has_in_order("INFO Flow run 'run-1' - Using task runner 'SequentialTaskRunner'")


# Names of flow runs.


def test_a_run_is_named_by_a_template_over_its_parameters(run) -> None:
    outcome = run("""
import datetime
from prefect_core import flow

@flow(flow_run_name="{name}-on-{date:%A}")
def my_flow(name: str, date: datetime.datetime):
    pass

# creates a flow run called 'marvin-on-Thursday'
my_flow(name="marvin", date=datetime.datetime.utcnow())
""")
    assert outcome.code == 0
    days = {f"marvin-on-{dt.datetime.now(dt.UTC) - dt.timedelta(hours=hours):%A}" for hours in (0, 1)}
    assert flow_runs()[0].name in days
    assert f"INFO Flow run '{flow_runs()[0].name}' - Finished in state Completed()" in outcome.lines


def test_a_run_is_named_by_a_function(run) -> None:
    outcome = run("""
import datetime
from prefect_core import flow

def generate_flow_run_name():
    date = datetime.datetime.utcnow()

    return f"{date:%A}-is-a-nice-day"

@flow(flow_run_name=generate_flow_run_name)
def my_flow(name: str):
    pass

# creates a flow run called 'Thursday-is-a-nice-day'
my_flow(name="marvin")
""")
    assert outcome.code == 0
    assert flow_runs()[0].name.endswith("day-is-a-nice-day")


def test_a_run_is_named_by_a_function_that_asks_the_runtime(run) -> None:
    outcome = run("""
from prefect_core import flow
from prefect_core.runtime import flow_run

def generate_flow_run_name():
    flow_name = flow_run.flow_name

    parameters = flow_run.parameters
    name = parameters["name"]
    limit = parameters["limit"]

    return f"{flow_name}-with-{name}-and-{limit}"

@flow(flow_run_name=generate_flow_run_name)
def my_flow(name: str, limit: int = 100):
    pass

# creates a flow run called 'my-flow-with-marvin-and-100'
my_flow(name="marvin")
""")
    assert outcome.code == 0
    assert flow_runs()[0].name == "my-flow-with-marvin-and-100"
    assert "INFO Flow run 'my-flow-with-marvin-and-100' - Finished in state Completed()" in outcome.lines


# Tasks.


def test_a_flow_alone_says_when_it_begins_and_ends(run) -> None:
    outcome = run("""
from prefect_core import flow

@flow(name="Hello Flow")
def hello_world(name="world"):
    print(f"Hello {name}!")

hello_world("Marvin")
""")
    assert outcome.code == 0
    assert outcome.lines == [
        "INFO prefect_core.engine - Created flow run 'run-1' for flow 'Hello Flow'",
        "INFO Flow run 'run-1' - Using task runner 'ConcurrentTaskRunner'",
        "Hello Marvin!",
        "INFO Flow run 'run-1' - Finished in state Completed()",
    ]


def test_the_work_of_a_flow_is_done_in_a_task(run) -> None:
    outcome = run("""
from prefect_core import flow, task

@task(name="Print Hello")
def print_hello(name):
    msg = f"Hello {name}!"
    print(msg)
    return msg

@flow(name="Hello Flow")
def hello_world(name="world"):
    message = print_hello(name)

hello_world("Marvin")
""")
    assert outcome.code == 0
    assert outcome.lines == [
        "INFO prefect_core.engine - Created flow run 'run-1' for flow 'Hello Flow'",
        "INFO Flow run 'run-1' - Using task runner 'ConcurrentTaskRunner'",
        "INFO Flow run 'run-1' - Created task run 'Print Hello-0' for task 'Print Hello'",
        "Hello Marvin!",
        "INFO Task run 'Print Hello-0' - Finished in state Completed()",
        "INFO Flow run 'run-1' - Finished in state Completed('All states completed.')",
    ]


# Subflows.

WITH_SUBFLOW = [
    "INFO prefect_core.engine - Created flow run 'run-1' for flow 'Hello Flow'",
    "INFO Flow run 'run-1' - Using task runner 'ConcurrentTaskRunner'",
    "INFO Flow run 'run-1' - Created task run 'Print Hello-0' for task 'Print Hello'",
    "Hello Marvin!",
    "INFO Task run 'Print Hello-0' - Finished in state Completed()",
    "INFO Flow run 'run-1' - Created subflow run 'run-2' for flow 'Subflow'",
    "Subflow says: Hello Marvin!",
    "INFO Flow run 'run-2' - Finished in state Completed()",
    "INFO Flow run 'run-1' - Finished in state Completed('All states completed.')",
]


def assert_subflow_is_tracked() -> None:
    parent, child = flow_runs()
    tracking = next(row for row in task_runs() if row.task_name == "Subflow")
    assert (parent.flow_name, child.flow_name) == ("Hello Flow", "Subflow")
    assert tracking.child_flow_run == child.key
    assert (child.parent_task_run, child.parent_flow_run) == (tracking.key, parent.key)
    assert tracking.state_type == child.state_type == "COMPLETED"


def test_a_flow_calls_another_in_the_same_file(run) -> None:
    outcome = run("""
from prefect_core import flow, task

@task(name="Print Hello")
def print_hello(name):
    msg = f"Hello {name}!"
    print(msg)
    return msg

@flow(name="Subflow")
def my_subflow(msg):
    print(f"Subflow says: {msg}")

@flow(name="Hello Flow")
def hello_world(name="world"):
    message = print_hello(name)
    my_subflow(message)

hello_world("Marvin")
""")
    assert (outcome.code, outcome.lines) == (0, WITH_SUBFLOW)
    assert_subflow_is_tracked()


def test_a_flow_calls_another_from_a_module(run) -> None:
    outcome = run(
        """
from prefect_core import flow, task
from subflow import my_subflow

@task(name="Print Hello")
def print_hello(name):
    msg = f"Hello {name}!"
    print(msg)
    return msg

@flow(name="Hello Flow")
def hello_world(name="world"):
    message = print_hello(name)
    my_subflow(message)

hello_world("Marvin")
""",
        subflow="""
from prefect_core import flow, task

@flow(name="Subflow")
def my_subflow(msg):
    print(f"Subflow says: {msg}")
""",
    )
    assert (outcome.code, outcome.lines) == (0, WITH_SUBFLOW)
    assert_subflow_is_tracked()


# Parameters.


def test_a_dict_becomes_the_model_that_a_parameter_is_annotated_with(run) -> None:
    outcome = run("""
from prefect_core import flow
from pydantic import BaseModel

class Model(BaseModel):
    a: int
    b: float
    c: str

@flow
def model_validator(model: Model):
    print(model)

model_validator({"a": "1", "b": 2, "c": "three"})
""")
    assert outcome.code == 0
    assert "a=1 b=2.0 c='three'" in outcome.lines


def test_text_becomes_the_moment_that_a_parameter_is_annotated_with(run) -> None:
    outcome = run("""
from prefect_core import flow
from datetime import datetime

@flow
def what_day_is_it(date: datetime = None):
    if date is None:
        date = datetime.utcnow()
    print(f"It was {date.strftime('%A')} on {date.isoformat()}")

what_day_is_it("2021-01-01T02:00:19.180906")
# It was Friday on 2021-01-01T02:00:19.180906
""")
    assert outcome.code == 0
    assert "It was Friday on 2021-01-01T02:00:19.180906" in outcome.lines


def test_a_value_that_does_not_fit_fails_the_run_without_its_running(run) -> None:
    outcome = run("""
from prefect_core import flow
from datetime import datetime

@flow
def what_day_is_it(date: datetime = None):
    print("running")

what_day_is_it("yesterday")
""")
    assert outcome.code == 1
    assert "running" not in outcome.lines
    row = flow_runs()[0]
    assert (row.state_type, row.started) == ("FAILED", None)
    assert "ParameterTypeError" in str(row.state_message)


# Final states.


def test_a_flow_that_raises_fails_at_once(run) -> None:
    outcome = run("""
from prefect_core import flow

@flow
def always_fails_flow():
    raise ValueError("This flow immediately fails")

always_fails_flow()
""")
    assert outcome.code == 1
    assert outcome.has_in_order(
        "INFO prefect_core.engine - Created flow run 'run-1' for flow 'always-fails-flow'",
        "ERROR Flow run 'run-1' - Encountered exception during execution:",
        "Traceback (most recent call last):",
        "ValueError: This flow immediately fails",
        "ERROR Flow run 'run-1' - Finished in state Failed('Flow run encountered an exception: ValueError: This flow immediately fails')",
    )
    assert outcome.lines[-1] == "ValueError: This flow immediately fails"


TASKS = """
from prefect_core import flow, task
from prefect_core.states import Completed, Failed

@task
def always_fails_task():
    raise ValueError("I fail successfully")

@task
def always_succeeds_task():
    print("I'm fail safe!")
    return "success"

"""
TASK_FAILED = [
    "ERROR Task run 'always_fails_task-0' - Encountered exception during execution:",
    "Traceback (most recent call last):",
    "ValueError: I fail successfully",
    "ERROR Task run 'always_fails_task-0' - Finished in state Failed('Task run encountered an exception ValueError: I fail successfully')",
]


def test_a_flow_that_returns_nothing_fails_with_one_of_its_tasks(run) -> None:
    outcome = run(
        TASKS
        + """
@flow
def always_fails_flow():
    always_fails_task.submit().result(raise_on_failure=False)
    always_succeeds_task()

if __name__ == "__main__":
    always_fails_flow()
"""
    )
    assert outcome.code == 1
    assert outcome.has_in_order(
        "INFO prefect_core.engine - Created flow run 'run-1' for flow 'always-fails-flow'",
        "INFO Flow run 'run-1' - Created task run 'always_fails_task-0' for task 'always_fails_task'",
        *TASK_FAILED,
        "INFO Flow run 'run-1' - Created task run 'always_succeeds_task-0' for task 'always_succeeds_task'",
        "I'm fail safe!",
        "INFO Task run 'always_succeeds_task-0' - Finished in state Completed()",
        "ERROR Flow run 'run-1' - Finished in state Failed('1/2 states failed.')",
    )
    assert outcome.lines[-1] == "ValueError: I fail successfully"


def test_a_flow_that_returns_a_future_ends_as_that_task_did(run) -> None:
    outcome = run(
        TASKS
        + """
@flow
def always_succeeds_flow():
    x = always_fails_task.submit().result(raise_on_failure=False)
    y = always_succeeds_task.submit(wait_for=[x])
    return y

if __name__ == "__main__":
    always_succeeds_flow()
"""
    )
    assert outcome.code == 0
    assert outcome.has_in_order(
        *TASK_FAILED,
        "I'm fail safe!",
        "INFO Task run 'always_succeeds_task-0' - Finished in state Completed()",
        "INFO Flow run 'run-1' - Finished in state Completed('All states completed.')",
    )


def test_one_failed_future_of_three_fails_the_flow_that_returns_them(run) -> None:
    """Taken as it was meant: the tasks are submitted, and the subflow is called with `return_state=True`."""
    outcome = run("""
from prefect_core import task, flow

@task
def always_fails_task():
    raise ValueError("I am bad task")

@task
def always_succeeds_task():
    return "foo"

@flow
def always_succeeds_flow():
    return "bar"

@flow
def always_fails_flow():
    x = always_fails_task.submit()
    y = always_succeeds_task.submit()
    z = always_succeeds_flow(return_state=True)
    return x, y, z

print(repr(always_fails_flow(return_state=True)))
""")
    assert outcome.code == 0
    assert outcome.has_in_order(
        "INFO Flow run 'run-1' - Created subflow run 'run-2' for flow 'always-succeeds-flow'",
        "INFO Flow run 'run-2' - Finished in state Completed()",
        "ERROR Flow run 'run-1' - Finished in state Failed('1/3 states failed.')",
    )
    assert (
        "ERROR Task run 'always_fails_task-0' - Finished in state Failed('Task run encountered an exception ValueError: I am bad task')"
        in (outcome.lines)
    )
    shown = outcome.lines[-1]
    begun = (
        "Failed(message='1/3 states failed.', type=FAILED, result=(Failed(message='Task run encountered an exception ValueError: "
        "I am bad task', type=FAILED, result=ValueError('I am bad task'), task_run_id="
    )
    assert shown.startswith(begun)
    assert "Completed(message=None, type=COMPLETED, result='foo', task_run_id=" in shown
    assert "Completed(message=None, type=COMPLETED, result='bar', " in shown


def test_as_printed_a_failing_direct_call_raises_inside_the_flow(run) -> None:
    """What the sample does word for word: the call raises, as Python does, and the flow fails with it."""
    outcome = run(
        TASKS
        + """
@flow
def always_fails_flow():
    x = always_fails_task()
    y = always_succeeds_task()
    return x, y

always_fails_flow()
"""
    )
    assert outcome.code == 1
    assert "I'm fail safe!" not in outcome.lines
    assert flow_runs()[0].state_message == "Flow run encountered an exception: ValueError: I fail successfully"


def test_a_state_made_by_hand_decides(run) -> None:
    outcome = run(
        TASKS
        + """
@flow
def always_succeeds_flow():
    x = always_fails_task.submit()
    y = always_succeeds_task.submit()
    if y.result() == "success":
        return Completed(message="I am happy with this result")
    else:
        return Failed(message="How did this happen!?")

if __name__ == "__main__":
    always_succeeds_flow()
"""
    )
    assert outcome.code == 0
    assert outcome.mentions(
        "Task run 'always_fails_task-0' - Encountered exception during execution:",
        "ValueError: I fail successfully",
        "I'm fail safe!",
        "Task run 'always_succeeds_task-0' - Finished in state Completed()",
    )
    assert outcome.lines[-1].endswith("Flow run 'run-1' - Finished in state Completed('I am happy with this result')")


def test_a_flow_that_returns_another_object_completes(run) -> None:
    """Taken as it was meant: `always_fails_task.submit()`."""
    outcome = run(
        TASKS
        + """
@flow
def always_succeeds_flow():
    always_fails_task.submit()
    return "foo"

if __name__ == "__main__":
    print(repr(always_succeeds_flow(return_state=True)))
"""
    )
    assert outcome.code == 0
    assert outcome.has_in_order(*TASK_FAILED, "INFO Flow run 'run-1' - Finished in state Completed()")
    assert outcome.lines[-1].startswith("Completed(message=None, type=COMPLETED, result='foo', flow_run_id=")
    assert [ended(row)[1] for row in task_runs()] == ["FAILED"]


# Hooks.


def test_a_failure_hook_runs_once_after_the_last_retry(run, tmp_path: Path) -> None:
    """The hook writes a file where the sample notifies Slack."""
    outcome = run("""
from pathlib import Path

from prefect_core import flow

def notify_by_file(flow, flow_run, state):
    with Path("notified.txt").open("a") as file:
        file.write(
            f"Your job {flow_run.name} entered {state.name} with message:\\n\\n>{state.message}\\n\\n"
            f"Tags: {flow_run.tags}\\n\\n"
            f"Scheduled start time = {flow_run.expected_start_time}\\n"
        )

@flow(on_failure=[notify_by_file], retries=1)
def noisy_flow():
    raise ValueError("oops!")

if __name__ == "__main__":
    noisy_flow()
""")
    assert outcome.code == 1
    row = flow_runs()[0]
    text = (tmp_path / "notified.txt").read_text()
    assert text.startswith(
        f"Your job {row.name} entered Failed with message:\n\n>Flow run encountered an exception: ValueError: oops!\n\nTags: "
    )
    assert text.count("Your job") == 1
    assert row.run_count == 2
    assert outcome.has_in_order(
        "INFO Flow run 'run-1' - Running hook 'notify_by_file' in response to entering state 'Failed'",
        "INFO Flow run 'run-1' - Hook 'notify_by_file' finished running successfully",
    )
