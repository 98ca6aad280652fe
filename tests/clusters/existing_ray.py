"""A Ray as an operator starts it, in processes of its own: `ray start --head`."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil

from tests.clusters.existing import not_of_ray

_READY_SECONDS = 60
_END_SECONDS = 20
SOON_MISSED = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500}
"""What makes a head find a dead node after 2.5 s instead of 15; one that is only busy has as long as ever to answer."""


class ExistingRay:
    """Starts with the block and ends with it. It is known by an address of loopback, and only its own processes are ended."""

    def __init__(self, *options: str, environment: dict[str, str] | None = None) -> None:
        # Paths to sockets must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="ray-"))
        self.address = ""
        self._options = options
        # A user's token would be asked for, where one was made. The process for a client takes its time on a busy machine.
        ours = {"RAY_AUTH_MODE": "disabled", "RAY_CLIENT_SERVER_CHECK_CHANNEL_TIMEOUT_S": "90"}
        # With it, one in fifteen of these processes dies between its fork and its start, and the client hangs.
        ours["GRPC_ENABLE_FORK_SUPPORT"] = "0"
        self._environment = {**not_of_ray(), **ours, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--port=0"]
        # 127.0.0.1 would be replaced by the address that others reach.
        command += ["--node-ip-address=127.0.0.2", "--include-dashboard=false", "--disable-usage-stats"]
        # The client server looks the port of the agent up when it starts, by when the agent may not have said it yet.
        command += [f"--runtime-env-agent-port={free_port()}"]
        command += [f"--temp-dir={self.folder}", f"--object-store-memory={200 << 20}", *self._options]
        with (self.folder / "start.log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, env=self._environment)
        deadline = time.monotonic() + _READY_SECONDS
        while not self._is_ready():
            assert time.monotonic() < deadline, self.log()
            assert self._process.poll() is None, self.log()
            time.sleep(0.05)
        return self

    def _is_ready(self) -> bool:
        try:
            self.address = (self.folder / "ray_current_cluster").read_text().strip()
        except OSError:
            return False
        return "Ray runtime started" in self.log()

    def log(self) -> str:
        """Return what the command wrote."""
        return (self.folder / "start.log").read_text()

    def client_log(self) -> str:
        """Return what the client server wrote, and those that it started."""
        return "\n".join(path.read_text() for path in self.folder.glob("session_latest/logs/ray_client_server*"))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process is not None
        children = psutil.Process(self._process.pid).children(recursive=True)
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for child in children:
            if child.is_running():
                child.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.2", 0))
        port: int = free.getsockname()[1]
        return port


def autoscaling(folder: Path) -> tuple[list[str], dict[str, str]]:
    """Return options and environment of a Ray that starts a node of four processors by itself when it is asked for, on this machine."""
    config: dict[str, Any] = {
        "cluster_name": "of-tests",
        "max_workers": 1,
        "provider": {"type": "fake_multinode"},
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            "large": {"resources": {"CPU": 4}, "node_config": {}, "min_workers": 0, "max_workers": 1},
        },
        "head_node_type": "ray.head.default",
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 1,
        "file_mounts_sync_continuously": False,
        **{name: {} for name in ("auth", "docker", "file_mounts", "head_node", "worker_nodes")},
        **{name: [] for name in _LISTS},
    }
    path = folder / "autoscaling.json"
    path.write_text(json.dumps(config))
    environment = {"AUTOSCALER_UPDATE_INTERVAL_S": "1", "RAY_FAKE_CLUSTER": "1"}
    return [f"--autoscaling-config={path}", "--num-cpus=1"], environment


_LISTS = (
    "cluster_synced_files",
    "head_setup_commands",
    "head_start_ray_commands",
    "initialization_commands",
    "rsync_exclude",
    "rsync_filter",
    "setup_commands",
    "worker_setup_commands",
    "worker_start_ray_commands",
)
