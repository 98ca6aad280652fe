"""An S3-compatible server on loopback, and a proxy before it that can be told to be gone, mute or to cut connections."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import fsspec.config

BUCKET = "results"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def s3_server() -> Iterator[int]:
    """Run moto's server in a process of its own, with an empty bucket; gives its port."""
    port = free_port()
    server = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        until = time.monotonic() + 50
        while True:
            assert server.poll() is None, "the S3 server did not start"
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                break
            assert time.monotonic() < until
            time.sleep(0.05)
        with reached_through(port):
            fsspec.filesystem("s3", skip_instance_cache=True).mkdir(BUCKET)
        yield port
    finally:
        server.kill()
        server.wait()


@contextmanager
def reached_through(port: int, **options: object) -> Iterator[None]:
    """Have fsspec find S3 at this port, as a user's ~/.config/fsspec would say it."""
    before = fsspec.config.conf.get("s3")
    fsspec.config.conf["s3"] = {
        "key": "test",
        "secret": "test",
        "client_kwargs": {"endpoint_url": f"http://127.0.0.1:{port}", "region_name": "eu-central-1"},
        **options,
    }
    try:
        yield
    finally:
        if before is None:
            del fsspec.config.conf["s3"]
        else:
            fsspec.config.conf["s3"] = before


class Proxy:
    """Hands connections on to a port. `is_gone`: takes none; `is_mute`: takes them and says nothing; `cut_after`: bytes to let through."""

    def __init__(self, port: int) -> None:
        self.port = free_port()
        self.is_mute = False
        self.cut_after: int | None = None
        self.was_tried = threading.Event()
        self._target = port
        self._listening: socket.socket | None = None
        self._open: list[socket.socket] = []
        self.come_back()

    def come_back(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", self.port))
        threading.Thread(target=self._accept, args=(self._listening,), daemon=True).start()

    def be_gone(self) -> None:
        assert self._listening is not None
        # Wakes the thread that accepts; closing alone would leave it, and the port, as they are.
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.clear()

    def _accept(self, listening: socket.socket) -> None:
        while True:
            try:
                client, _ = listening.accept()
            except OSError:
                return
            self.was_tried.set()
            self._open.append(client)
            if self.is_mute:
                continue
            server = socket.create_connection(("127.0.0.1", self._target))
            self._open.append(server)
            threading.Thread(target=self._pass_on, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, is_upload: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if is_upload and self.cut_after is not None:
                    self.cut_after -= len(data)
                    if self.cut_after <= 0:
                        break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
