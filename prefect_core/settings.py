"""Settings: read once, from the first place that has them.

    environment (PREFECT_CORE_<NAME>)  >  prefect_core.toml  >  pyproject.toml [tool.prefect_core]  >  default

The two files are looked for in the working directory and its parents. Nested TOML tables are joined with "_", so `[logging] level`
and `logging_level` name the same setting. A value that can't be understood is an error that names the setting, where it came from,
and what would do.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect_core.errors import ConfigurationError

PREFIX = "PREFECT_CORE_"


class Setting:
    """One setting: its name, how its text is read, its default, and what it is for."""

    __slots__ = ("default", "doc", "name", "read")

    def __init__(self, name: str, read: Callable[[Any], Any], default: Any, doc: str) -> None:
        self.name = name
        self.read = read
        self.default = default
        self.doc = doc

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return PREFIX + self.name.upper()


def _flag(value: Any) -> bool:
    text = str(value).strip().lower()
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off", ""}:
        return False
    raise ValueError("expected true or false")


def _count(value: Any) -> int:
    number = int(value)
    if number < 0:
        raise ValueError("expected a whole number from 0")
    return number


def _seconds(value: Any) -> float:
    number = float(value)
    if not 0 <= number < float("inf"):
        raise ValueError("expected seconds, 0 or more")
    return number


def _path(value: Any) -> Path:
    return Path(str(value)).expanduser()


def _level(value: Any) -> str:
    text = str(value).strip().upper()
    if text not in {"DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"}:
        raise ValueError("expected DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return text


def _source_of_final_state(value: Any) -> str:
    if value not in {"children", "return_value"}:
        raise ValueError("expected 'children' or 'return_value'")
    return str(value)


SETTINGS: tuple[Setting, ...] = (
    Setting("home", _path, "~/.prefect_core", "Folder of the history and of stored results."),
    Setting("task_runner", str, "", "Runner of root flows, replacing what the flow says: a name such as concurrent:8."),
    Setting("final_state_from", _source_of_final_state, "children", "What decides a flow that returns None."),
    Setting("flow_default_retries", _count, 0, "Retries of a flow that names none."),
    Setting("flow_default_retry_delay_seconds", _seconds, 0, "Delay between retries of a flow that names none."),
    Setting("task_default_retries", _count, 0, "Retries of a task that names none."),
    Setting("task_default_retry_delay_seconds", _seconds, 0, "Delay between retries of a task that names none."),
    Setting("max_parameter_bytes", _count, 524_288, "Largest JSON size of a flow run's parameters; 0 for no limit."),
    Setting("max_generator_items", _count, 1_000_000, "Most items taken from a returned generator; 0 for no limit."),
    Setting("max_nesting", _count, 400, "Deepest nesting of runs inside runs."),
    Setting("max_threads", _count, 256, "Most threads of a concurrent runner without max_workers."),
    Setting("cancel_grace_seconds", _seconds, 30, "How long running bodies may go on after their flow failed."),
    Setting("interrupt_grace_seconds", _seconds, 5, "How long running bodies may go on after Ctrl-C or SIGTERM."),
    Setting("logging_level", _level, "INFO", "Least level of the lines on the console."),
    Setting("logging_to_history", _flag, True, "Whether log records of runs are kept in the history."),
    Setting("logging_task_lines", _count, 100, "Task runs of one flow run that log at INFO; later ones log at DEBUG."),
    Setting("log_prints", _flag, False, "Whether print() in a run is logged when neither task nor flow says so."),
    Setting("recorder_queue", _count, 100_000, "Events that may wait to be written before callers are held back."),
    Setting("history_retry_seconds", _seconds, 5, "How long a failed write to the history is tried again."),
    Setting(
        "lease_seconds", _seconds, 60, "How long others who can't see a process take it to live after it last said so."
    ),
    Setting("lease_beat_seconds", _seconds, 10, "How often a process that owns runs says that it lives."),
    Setting("results_persist_by_default", _flag, False, "Whether results are stored where nobody says so or not."),
    Setting("tasks_refresh_cache", _flag, False, "Whether tasks that don't say so leave earlier results alone."),
    Setting("tasks_disable_caching", _flag, False, "Whether no task uses or leaves cached results, whatever it says."),
    Setting(
        "tasks_default_no_cache",
        _flag,
        False,
        "Whether a task without a cache policy has NO_CACHE. Such a task is not cached anyway; the setting is known to those who have it.",
    ),
    Setting("results_serializer", str, "pickle", "Serializer of results that name none."),
    Setting(
        "results_storage", str, "", "Folder or URL of stored results that name none; empty for `storage` in the home."
    ),
    Setting("results_inline_bytes", _count, 8192, "Largest result that is kept inside the history."),
    Setting(
        "results_json_only",
        _flag,
        False,
        "Whether results may only be stored and loaded as JSON, since loading a pickle is loading code.",
    ),
    Setting("storage_retry_seconds", _seconds, 10, "How long a failed access to the storage is tried again."),
)
_BY_NAME: dict[str, Setting] = {setting.name: setting for setting in SETTINGS}


class Settings:
    """The values in force; `sources` says where each came from."""

    home: Path
    task_runner: str
    final_state_from: str
    flow_default_retries: int
    flow_default_retry_delay_seconds: float
    task_default_retries: int
    task_default_retry_delay_seconds: float
    max_parameter_bytes: int
    max_generator_items: int
    max_nesting: int
    max_threads: int
    cancel_grace_seconds: float
    interrupt_grace_seconds: float
    logging_level: str
    logging_to_history: bool
    logging_task_lines: int
    log_prints: bool
    recorder_queue: int
    history_retry_seconds: float
    lease_seconds: float
    lease_beat_seconds: float
    results_persist_by_default: bool
    tasks_refresh_cache: bool
    tasks_disable_caching: bool
    tasks_default_no_cache: bool
    results_serializer: str
    results_storage: str
    results_inline_bytes: int
    results_json_only: bool
    storage_retry_seconds: float

    def __init__(self, given: dict[str, tuple[Any, str]]) -> None:
        self.sources: dict[str, str] = {}
        for setting in SETTINGS:
            value, source = given.get(setting.name, (setting.default, "default"))
            try:
                setattr(self, setting.name, setting.read(value))
            except (ValueError, TypeError) as error:
                raise ConfigurationError(f"Setting {setting.name} from {source} is {value!r}: {error}.") from error
            self.sources[setting.name] = source


def _from_files(start: Path) -> dict[str, tuple[Any, str]]:
    given: dict[str, tuple[Any, str]] = {}
    for name, tables in (("pyproject.toml", ("tool", "prefect_core")), ("prefect_core.toml", ())):
        path = next((folder / name for folder in (start, *start.parents) if (folder / name).is_file()), None)
        if path is not None:
            given |= {key: (value, str(path)) for key, value in _read_toml(path, tables).items()}
    return given


def _read_toml(path: Path, tables: tuple[str, ...]) -> dict[str, Any]:
    text = path.read_text(encoding="utf-8")
    if tables and "prefect_core" not in text:
        return {}
    import tomllib  # most projects have neither file

    try:
        content: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path} is not valid TOML: {error}.") from error
    for table in tables:
        content = content.get(table, {})
    flat = dict(_flatten(content, ""))
    unknown = sorted(set(flat) - set(_BY_NAME))
    if unknown:
        raise ConfigurationError(
            f"{path} sets {', '.join(unknown)}, which is no setting of prefect_core; see `config view`."
        )
    return flat


def _flatten(table: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}_")
        else:
            yield prefix + key, value


def load() -> Settings:
    """Read the settings afresh. Raises `ConfigurationError` for a value that can't be understood."""
    given = _from_files(Path.cwd())
    for setting in SETTINGS:
        text = os.environ.get(setting.variable)
        if text is not None and (text or setting.read is str):
            given[setting.name] = (text, setting.variable)
    return Settings(given)


_current: Settings | None = None


def current() -> Settings:
    """Return the settings in force, read when first asked for."""
    global _current
    if _current is None:
        _current = load()
    return _current


def install(settings: Settings | None) -> Settings | None:
    """Make `settings` those in force and return the ones they replace; a worker takes over those of its main process."""
    global _current
    previous, _current = _current, settings
    return previous


def forget() -> None:
    """Read the settings again when they are next asked for."""
    global _current
    _current = None


@contextmanager
def temporary_settings(**values: Any) -> Iterator[Settings]:
    """Replace some settings for the length of a `with` block, in the whole process."""
    global _current
    unknown = sorted(set(values) - set(_BY_NAME))
    if unknown:
        raise ConfigurationError(f"{', '.join(unknown)}: no such setting of prefect_core.")
    before = current()
    given = {name: (getattr(before, name), source) for name, source in before.sources.items()}
    _current = Settings(given | {name: (value, "temporary_settings") for name, value in values.items()})
    try:
        yield _current
    finally:
        _current = before
