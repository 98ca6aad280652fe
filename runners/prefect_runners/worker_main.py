"""The program of one worker process of `ProcessPoolTaskRunner`: takes payloads from a pipe and sends receipts back.

The main thread runs the bodies, so that deadlines can interrupt them and libraries that want the main thread have it. A second thread
listens on the *lifeline*, a pipe that the main process holds open: a "?" there asks how the body under way is doing, and a "!" has it
interrupted. The end of the pipe means that the main process is gone, which ends this process at once, with all that its bodies started. A
body that holds the interpreter would keep that thread from it: where the kernel can do so (Linux), it watches a second such pipe, on which
nothing is ever said.

Messages, in bytes; the first byte is the kind. To the worker: a pickled parcel. From it: READY, FAILED and why, BEGUN and the moment,
HAPPENED and events, RECEIPT and the reply, or LAST and the reply, after which the process is to be ended.
"""

from __future__ import annotations

import _thread
import fcntl
import os
import pickle
import select
import signal
import sys
import threading
import time
from io import TextIOWrapper
from multiprocessing.connection import Connection
from types import FrameType

from prefect_core.engine.deadlines import may_interrupt
from prefect_core.engine.workplace import Workplace
from prefect_core.errors import TerminationSignal

_AGAIN_SECONDS = 0.001
READY, FAILED, BEGUN, HAPPENED, RECEIPT, LAST = b"Y", b"F", b"B", b"H", b"R", b"L"


class Worker:
    """The process that this is."""

    def __init__(self, channel: Connection, lifeline: int) -> None:
        self._channel = channel
        self._lifeline = lifeline
        self._sending = threading.Lock()
        self._workplace = Workplace(is_dedicated=True)
        self._told_us = 0
        self._is_asked_to_end = False

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
            reply = self._workplace.run(pickle.loads(parcel), self._happened, self._tell_begin)
            self._send(RECEIPT if self._workplace.is_clean and not self._is_asked_to_end else LAST, reply)

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
        while asked := os.read(self._lifeline, 1024):
            if b"!" in asked:
                self._is_asked_to_end = True
                _signal_main_thread()
            news = self._workplace.news()
            if news is not None:
                self._tell_begin()
                news[1].send_ahead()
        # Nobody is left to hear how it ends.
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    def on_terminate(self, number: int, frame: FrameType | None) -> None:
        """Interrupt the body under way, where that does no harm, if the main process asks for it; anybody else ends this process."""
        if not self._is_asked_to_end or self._workplace.news() is None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        elif may_interrupt(frame):
            raise TerminationSignal(number)
        else:
            _thread.start_new_thread(_signal_main_thread, (_AGAIN_SECONDS,))


def _signal_main_thread(after_seconds: float = 0.0) -> None:
    time.sleep(after_seconds)
    # By this, and not by one for the whole process, a sleep of that thread ends.
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGTERM)


def _leave_to_the_main_process(_signum: int, _frame: FrameType | None) -> None:
    """Ignore Ctrl-C, which the terminal sends to every process: the main one decides, and gives bodies their grace period.

    A handler, and not SIG_IGN, because programs that a body starts would inherit that.
    """


def _have_kernel_watch(pipe: int) -> None:
    """Have all processes of this group killed when the other end of a pipe is closed, whatever they are doing."""
    if not hasattr(fcntl, "F_SETSIG"):
        return
    fcntl.fcntl(pipe, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(pipe, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(pipe, fcntl.F_SETFL, fcntl.fcntl(pipe, fcntl.F_GETFL) | os.O_ASYNC)
    if select.select([pipe], [], [], 0)[0]:
        # It was closed before there was a watch.
        os.killpg(0, signal.SIGKILL)


def main(channel: int, lifeline: int, silent: int) -> None:
    """Serve on file descriptors that were inherited; nothing is ever said on the last."""
    for number in (channel, lifeline, silent):
        os.set_inheritable(number, False)
    if os.getpgrp() == os.getpid():
        _have_kernel_watch(silent)
    worker = Worker(Connection(channel), lifeline)
    os.register_at_fork(after_in_child=lambda: _begin_anew(channel, lifeline, silent))
    signal.signal(signal.SIGINT, _leave_to_the_main_process)
    signal.signal(signal.SIGTERM, worker.on_terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # What a body printed is not lost with the process.
            stream.reconfigure(line_buffering=True)
    worker.serve()


def _begin_anew(*numbers: int) -> None:
    """Let a child made by a body hold no end of the pipes, which it would keep open beyond this process, and end as others do."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in numbers:
        try:
            os.close(number)
        except OSError:
            # It was closed before.
            continue
