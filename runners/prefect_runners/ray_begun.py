"""What had begun on a Ray worker that has died, and on which: Ray says no more than that a task is lost.

Workers note what they begin in a folder of the flow's process (`beginnings`), each in a file that is called like itself. One that can't,
since it is on another machine, says so in the store before it begins anything: from then on only what is found there is certain.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from prefect_core.engine import remote
from prefect_runners import beginnings
from prefect_runners.beginnings import Beginnings
from prefect_runners.ray_store import HeadStore


class Book:
    """The near end."""

    def __init__(self, store: HeadStore) -> None:
        self._store = store
        self._folder = Path(tempfile.mkdtemp(prefix="prefect-core-ray-"))
        self.folder = str(self._folder)

    def workers_of(self, keys: Collection[str], *, may_ask: bool = True) -> dict[str, str | None]:
        """Return on which worker each of these began: None if it did not, "" if that is not known.

        For those whose workers are gone; or, where the head can't be asked any more, for what has begun by now.
        """
        found: dict[str, str | None] = {}
        for path in self._folder.iterdir():
            found.update(dict.fromkeys(beginnings.begun_among(path, keys) or (), path.name))
        rest = "" if not may_ask or self._lacks_something() else None
        return {key: found.get(key, rest) for key in keys}

    def _lacks_something(self) -> bool:
        try:
            return self._store.has_blind()
        except Exception:
            # The head does not answer.
            return True

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


def outlet(folder: str, store: HeadStore) -> Callable[[str], object]:
    """Return what a worker tells the keys of attempts that begin. Raises what Ray raises if its head does not answer."""
    try:
        if Path(folder).is_dir():
            return Beginnings(Path(folder) / remote.process_name()).note
    except OSError:
        # It can be seen from here, but not written to.
        pass
    store.tell_blind()
    return unheard


def unheard(_key: str) -> None:
    """Stand for a folder that is out of reach."""
