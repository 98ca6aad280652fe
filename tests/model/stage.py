"""Where bodies stand that wait to be told how to go on, whichever process they are in; and the journal of all that began."""

from __future__ import annotations

import json
import shutil
import socket
import tempfile
import threading
from pathlib import Path
from typing import Any

from tests.model.story import RETURN


class Body:
    """A body that has begun, or one that came by again at a later place of it."""

    def __init__(self, line: socket.socket, told: dict[str, Any]) -> None:
        self._line = line
        self.name: str = told["name"]
        self.run: int = told["run"]
        self.attempt: int = told["attempt"]
        self.process: int = told["process"]
        self.at_us: int = told["at_us"]
        self.is_held = True

    @property
    def is_beginning(self) -> bool:
        """Whether this is the first that is heard of the body."""
        return self.name != "end"

    def is_gone(self) -> bool:
        """Whether it waits no more, since it was interrupted or its process has ended."""
        try:
            return self._line.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        except BlockingIOError:
            return False
        except ConnectionError:
            return True

    def __repr__(self) -> str:
        return f"{self.name} of run {self.run}, attempt {self.attempt}, in process {self.process}"


class Stage:
    """The far end of `story.stand_before`, from any thread."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="stage"))
        self.address = str(self._folder / "socket")
        self._server = socket.socket(socket.AF_UNIX)
        self._server.bind(self.address)
        self._server.listen(64)
        self._changed = threading.Condition()
        self._dead: set[int] = set()
        self.journal: list[Body] = []
        self._thread = threading.Thread(target=self._accept, name="stage", daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                line, _ = self._server.accept()
            except OSError:
                return
            with line.makefile("rb") as told:
                first = told.readline()
            if not first:
                # Closed by `close`, or killed in the middle of a word.
                line.close()
                continue
            with self._changed:
                body = Body(line, json.loads(first))
                self.journal.append(body)
                if body.process in self._dead:
                    self._let_go(body, b"")
                self._changed.notify_all()

    def held(self) -> list[Body]:
        """Return the bodies that wait, in the order in which they came."""
        with self._changed:
            return [body for body in self.journal if body.is_held and not body.is_gone()]

    def tell(self, body: Body, verdict: bytes = RETURN) -> None:
        """Let a body go on."""
        with self._changed:
            self._let_go(body, verdict)

    def end(self, process: int) -> None:
        """Let all bodies of a process, and all that will come, end as with it."""
        with self._changed:
            self._dead.add(process)
            for body in self.journal:
                if body.process == process:
                    self._let_go(body, b"")

    def _let_go(self, body: Body, verdict: bytes) -> None:
        if body.is_held:
            body.is_held = False
            try:
                body._line.sendall(verdict)
            except OSError:
                pass  # its process was killed, or it was interrupted
            body._line.close()

    def close(self) -> None:
        """Let go of everything."""
        for body in self.journal:
            self.tell(body, b"")
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()
        self._thread.join()
        shutil.rmtree(self._folder)
