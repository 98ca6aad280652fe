"""The program of one worker process of `ProcessPoolTaskRunner`: takes payloads from a pipe and sends receipts back.

The main thread runs the bodies, so that deadlines can interrupt them and libraries that want the main thread have it. A second thread
listens on the *lifeline*, a pipe that the main process holds open: a byte there asks how the body under way is doing, and its end means
that the main process is gone, which ends this process at once, whatever it is doing.

Messages, in bytes; the first byte is the kind. To the worker: a pickled parcel. From it: READY, FAILED and why, BEGUN and the moment,
HAPPENED and events, RECEIPT and the reply, or LAST and the reply, after which the process is to be ended.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
from io import TextIOWrapper
from multiprocessing.connection import Connection
from types import FrameType

from prefect_core.engine.workplace import Workplace

READY, FAILED, BEGUN, HAPPENED, RECEIPT, LAST = b"Y", b"F", b"B", b"H", b"R", b"L"


class Worker:
    """The process that this is."""

    def __init__(self, channel: Connection, lifeline: int) -> None:
        self._channel = channel
        self._lifeline = lifeline
        self._sending = threading.Lock()
        self._workplace = Workplace(is_dedicated=True)
        self._told_us = 0

    def serve(self) -> None:
        """Run payloads until the main process closes the channel."""
        threading.Thread(target=self._listen, name="prefect-core-lifeline", daemon=True).start()
        if not self._initialize():
            return
        while True:
            try:
                parcel = self._channel.recv_bytes()
            except (EOFError, OSError):
                return
            reply = self._workplace.run(pickle.loads(parcel), self._happened)
            self._send(RECEIPT if self._workplace.is_clean else LAST, reply)

    def _initialize(self) -> bool:
        argv, initializer = pickle.loads(self._channel.recv_bytes())
        sys.argv[:] = argv
        try:
            if initializer is not None:
                function, arguments = pickle.loads(initializer)
                function(*arguments)
        except BaseException as error:
            self._send(FAILED, f"{type(error).__name__}: {error}".encode(errors="replace"))
            return False
        self._send(READY)
        return True

    def _send(self, kind: bytes, content: bytes = b"") -> None:
        with self._sending:
            self._channel.send_bytes(kind + content)

    def _happened(self, events: bytes) -> None:
        self._tell_begin()
        self._send(HAPPENED, events)

    def _tell_begin(self) -> None:
        news = self._workplace.news()
        if news is not None and news[0] != self._told_us:
            self._told_us = news[0]
            self._send(BEGUN, str(news[0]).encode())

    def _listen(self) -> None:
        while os.read(self._lifeline, 1024):
            news = self._workplace.news()
            if news is not None:
                self._tell_begin()
                news[1].send_ahead()
        # Nobody is left to hear how it ends.
        os._exit(1)


def _leave_to_the_main_process(_signum: int, _frame: FrameType | None) -> None:
    """Ignore Ctrl-C, which the terminal sends to every process: the main one decides, and gives bodies their grace period.

    A handler, and not SIG_IGN, because programs that a body starts would inherit that.
    """


def main(channel: int, lifeline: int) -> None:
    """Serve on two file descriptors that were inherited."""
    for number in (channel, lifeline):
        os.set_inheritable(number, False)
    os.register_at_fork(after_in_child=lambda: _close(channel, lifeline))
    signal.signal(signal.SIGINT, _leave_to_the_main_process)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # What a body printed is not lost with the process.
            stream.reconfigure(line_buffering=True)
    Worker(Connection(channel), lifeline).serve()


def _close(*numbers: int) -> None:
    """Let a child made by a body hold no end of the pipes: it would keep them open beyond this process."""
    for number in numbers:
        try:
            os.close(number)
        except OSError:
            # It was closed before.
            continue
