"""Cells of a notebook: flows in a loop that runs already, and what their results look like.

A notebook compiles each cell so that it may `await`, and runs all cells on one event loop; so do these tests.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import textwrap
from html.parser import HTMLParser
from typing import Any

import pytest
import trio

from prefect_core.states import Completed

PRELUDE = """
    import asyncio
    import anyio
    from prefect_core import flow, task, tags, get_run_logger

    @task
    def inc(x):
        return x + 1

    @task
    async def ainc(x):
        await anyio.sleep(0)
        return x + 1
"""


async def run_cell(source: str, names: dict[str, Any]) -> Any:
    """Run one cell and return the value of its last line, if that is an expression."""
    tree = ast.parse(textwrap.dedent(source))
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        tree.body[-1] = ast.copy_location(ast.Assign([ast.Name("_", ast.Store())], last.value), last)
    code = compile(ast.fix_missing_locations(tree), "<cell>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    names["_"] = None
    outcome = eval(code, names)
    if inspect.iscoroutine(outcome):
        await outcome
    return names["_"]


async def run_cells(*cells: str) -> Any:
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in (PRELUDE, *cells):
        value = await run_cell(cell, names)
    return value


def notebook(*cells: str) -> Any:
    """Run cells one after the other on one loop and return what the last shows."""
    return asyncio.run(run_cells(*cells))


def test_a_cell_awaits_an_async_flow():
    assert (
        notebook(
            """
        @flow
        async def numbers(n):
            return sum(await ainc.map(range(n))) + await inc.submit(1)
        """,
            "await numbers(3)",
        )
        == 8
    )


def test_the_same_cell_runs_under_trio():
    cell = """
        @flow
        async def numbers(n):
            return sum(await ainc.map(range(n)))

        await numbers(3)
    """
    assert trio.run(run_cells, cell) == 6


def test_a_cell_calls_a_plain_flow():
    assert (
        notebook(
            """
        @flow
        def numbers(n):
            return sum(future.result() for future in [*ainc.map(range(n)), inc.submit(1)])
        """,
            "numbers(3)",
        )
        == 8
    )


def test_cells_run_flows_of_both_colours_again_and_again():
    assert notebook(
        """
        @flow
        def plain():
            return inc(1)

        @flow
        async def asynchronous():
            return plain() + await ainc(1)
        """,
        "first = await asynchronous()",
        "second = plain()",
        "third = await asynchronous()",
        "first, second, third",
    ) == (4, 2, 4)


def test_a_cell_calls_tasks_without_a_flow():
    assert notebook("futures = inc.map([1, 2])", "inc(1), await ainc(1), await futures") == (2, 2, [2, 3])


def test_a_failing_flow_raises_in_its_cell_and_the_next_cell_goes_on():
    assert notebook(
        """
        @flow
        async def failing():
            raise ValueError("boom")

        try:
            await failing()
        except ValueError as error:
            said = str(error)
        """,
        "said, inc(1)",
    ) == ("boom", 2)


def test_cells_may_run_flows_side_by_side():
    assert notebook(
        """
        @flow
        async def numbers(n):
            return await ainc(n)

        await asyncio.gather(*[numbers(i) for i in range(4)])
        """
    ) == [1, 2, 3, 4]


def test_prints_of_a_flow_are_logged_and_those_of_its_cell_are_shown(capsys):
    notebook(
        """
        @flow(log_prints=True, flow_run_name="x")
        async def talking():
            print("inside")
        """,
        "await talking(); print('outside')",
    )
    shown = capsys.readouterr()
    assert shown.out == "outside\n"
    assert "| Flow run 'x' - inside" in shown.err


class Text(HTMLParser):
    """Reads the text of a piece of HTML and checks that its elements are closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        self.tags.add(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data.split()


RESULTS = """
    @task(name="<b>load</b>")
    def load(x):
        return x

    @flow(name="in and out")
    def around():
        return load.map([1, 2])

    submitted = load.submit(1)
    submitted.wait()
"""


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("around(return_state=True)", ["Completed", "All", "states", "completed."]),
        ("submitted", ["Future", "of", "Task", "run", "<b>load</b>-0", "Completed"]),
        ("submitted.task_run", ["Task", "run", "<b>load</b>-0", "Completed"]),
        ("load.map([])", ["0", "futures"]),
    ],
)
def test_a_result_has_a_picture_whose_names_are_only_text(cell, words):
    picture = Text(notebook(RESULTS, cell)._repr_html_())
    assert picture.words == words


def test_a_message_in_a_picture_is_only_text():
    picture = Text(Completed(name="<i>Skipped</i>", message="<script>")._repr_html_())
    assert picture.words == ["<i>Skipped</i>", "<script>"]
    assert picture.tags == {"code", "span"}


def test_a_list_of_futures_shows_the_first_and_counts_the_rest():
    picture = Text(notebook("futures = inc.map(range(1000))", "futures.wait(); futures")._repr_html_())
    assert picture.words[:2] == ["1,000", "futures"]
    assert picture.words[-3:] == ["and", "980", "more"]


def test_a_future_of_a_flow_shows_the_flow_run():
    picture = Text(
        notebook(
            """
            @flow(flow_run_name="inside")
            def inner():
                return 1

            @flow
            def around():
                future = inner.submit()
                future.wait()
                seen.append(future)

            seen = []
            around()
            seen[0]
            """
        )._repr_html_()
    )
    assert picture.words == ["Future", "of", "Flow", "run", "inside", "Completed"]


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        ("submitted", "PrefectFuture('<b>load</b>-0', Completed())"),
        ("submitted.state.copy(message='m')", "Completed(message='m', type=COMPLETED, result=1)"),
        ("load", "Task(name='<b>load</b>')"),
        ("around", "Flow(name='in and out')"),
    ],
)
def test_a_result_has_a_readable_text(cell, shown):
    assert repr(notebook(RESULTS, cell)) == shown


def test_the_texts_of_runs_name_run_state_and_id():
    run = notebook(RESULTS, "submitted.task_run")
    assert repr(run) == f"TaskRun(name='<b>load</b>-0', id={run.id}, state=Completed())"
