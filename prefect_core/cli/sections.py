"""The parts that the pages of `flow-run inspect` and `task-run inspect` share."""

from __future__ import annotations

from prefect_core.cli import output
from prefect_core.history.rows import FlowRunRow, TaskRunRow
from prefect_core.history.store import HistoryStore

_MOST_WORKERS = 20


def course(row: FlowRunRow | TaskRunRow) -> list[tuple[str, str]]:
    """Return the fields that say how a run went."""
    return [
        ("State", output.state_cell(row.state_type, row.state_name)),
        ("Message", row.state_message or "-"),
        ("Tags", ", ".join(row.tags) or "-"),
        ("Created", output.local(row.created)),
        ("Started", output.local(row.started)),
        ("Ended", output.local(row.ended)),
        ("Duration", output.span(row.duration_seconds)),
    ]


def workers(store: HistoryStore, key: int) -> None:
    """Print where the task runs of a flow run ran, if they did."""
    counts = store.counts_by_worker(key)
    if not counts:
        return
    output.heading("\nWorkers")
    shown = list(counts.items())[:_MOST_WORKERS]
    rows = [(worker, str(count)) for worker, count in shown]
    if len(counts) > len(shown):
        rows.append((f"({len(counts) - len(shown):,} more)", str(sum(counts.values()) - sum(dict(shown).values()))))
    output.table(("WORKER", "TASK RUNS"), rows)


def attempts(store: HistoryStore, key: int) -> None:
    """Print the attempts of a run, if there are several."""
    rows = store.attempts(key)
    if len(rows) < 2:
        return
    output.heading("\nAttempts")
    output.table(
        ("#", "STARTED", "ENDED", "STATE", "WORKER"),
        [
            (
                str(row.attempt),
                output.local(row.started),
                output.local(row.ended),
                output.state_cell(row.state_type, row.state_name),
                row.worker,
            )
            for row in rows
        ],
    )


def reopenings(store: HistoryStore, key: int) -> None:
    """Print who let a flow run run again, if somebody did."""
    rows = store.reopenings(key)
    if rows:
        output.heading("\nRun again")
        output.table(
            ("FROM ATTEMPT", "AT", "ASKED BY"), [(str(row.attempt), output.local(row.at), row.asked_by) for row in rows]
        )


def states_of(store: HistoryStore, key: int) -> None:
    """Print the states of a run."""
    output.heading("\nStates")
    output.table(
        ("SINCE", "ATTEMPT", "STATE", "MESSAGE"),
        [
            (
                f"{row.timestamp.astimezone():%Y-%m-%d %H:%M:%S.%f}",
                str(row.attempt),
                output.state_cell(row.type, row.name),
                row.message or "",
            )
            for row in store.states(key)
        ],
    )
