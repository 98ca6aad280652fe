"""Ray as this process has it: started for a runner, connected to by one, or somebody else's.

A process has one Ray. What a runner of ours started serves every runner that comes while it is up, and ends with the last of them, or is
kept warm for the next one with the same settings; what was there before is borrowed and left as it is found.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from prefect_core.errors import ConfigurationError, RunnerError, describe
from prefect_runners import ray_probe

_log = logging.getLogger("prefect_core.task_runner.ray")
_PROBE_SECONDS = 5.0


def load() -> ModuleType:
    """Return Ray. Raises `ConfigurationError` where it is not installed."""
    try:
        import ray  # optional, and heavy
    except ImportError as error:
        raise ConfigurationError(
            f"RayTaskRunner needs Ray, which can't be imported here ({error}): pip install prefect_core[ray]"
        ) from error
    return ray


class _Shared:
    """The Ray that runners of ours started or connected to in this process."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.users = 0
        self.is_local = False
        self.init_kwargs: dict[str, Any] = {}
        self.connection: object = None
        """That of the Ray which is kept warm."""

    def is_warm(self, ray: ModuleType) -> bool:
        """Tell whether the Ray of this process is one that was kept warm, and nobody uses."""
        return not self.users and self.connection is not None and connection(ray) == self.connection


_ours = _Shared()


class Lease:
    """A runner's part in the Ray of this process."""

    def __init__(self, ray: ModuleType, *, is_ours: bool, is_local: bool) -> None:
        self.ray = ray
        self.is_ours = is_ours
        self.is_local = is_local
        """Whether it was started here, with this very Python."""

    def give_back(self) -> None:
        """Leave; the last one shuts down what was ours and is not kept warm."""
        if not self.is_ours:
            return
        self.is_ours = False
        with _ours.lock:
            _ours.users -= 1
            if _ours.users == 0 and self.ray.is_initialized() and not _ours.is_warm(self.ray):
                self.ray.shutdown()


def connect(address: str | None, init_kwargs: dict[str, Any], *, keep_warm: bool = False) -> Lease:
    """Take part in the Ray of this process, which is connected or started if there is none.

    One that is started with `keep_warm` stays when its last user leaves; Ray itself ends it with the process. Raises `ConfigurationError`
    without Ray, and `RunnerError` that says what was tried.
    """
    ray = load()
    with _ours.lock:
        if _ours.is_warm(ray) and (address is not None or init_kwargs != _ours.init_kwargs):
            ray.shutdown()
        if ray.is_initialized():
            _check_same(ray, address)
            is_ours = bool(_ours.users) or _ours.is_warm(ray)
            if is_ours:
                _ours.users += 1
                if keep_warm and _ours.is_local and init_kwargs == _ours.init_kwargs:
                    _ours.connection = connection(ray)
            return Lease(ray, is_ours=is_ours, is_local=is_ours and _ours.is_local)
        _ours.users = 0
        place = _place(address, init_kwargs)
        context = _init(ray, place, init_kwargs)
        _ours.users, _ours.is_local, _ours.init_kwargs = 1, place is None, init_kwargs
        _ours.connection = connection(ray) if keep_warm else None
    nodes = sum(node["Alive"] for node in ray.nodes())
    _log.info("Ray has %d live node(s)", nodes)
    dashboard = getattr(context, "dashboard_url", None)
    if dashboard:
        _log.info("The Ray dashboard is available at %s", dashboard)
    return Lease(ray, is_ours=True, is_local=place is None)


def _place(address: str | None, init_kwargs: dict[str, Any]) -> str | None:
    """Return the address of the Ray to connect to, as it was given or stands in the environment; None if one is to be started."""
    found: str | None = address or init_kwargs.get("address") or os.environ.get("RAY_ADDRESS") or None
    return None if found == "local" else found


def close_warm_ray() -> None:
    """Shut down the Ray that `keep_warm` has kept, if no runner uses it. For a program that goes on with something else."""
    ray = load()
    with _ours.lock:
        if _ours.is_warm(ray):
            ray.shutdown()
        _ours.connection = None if not _ours.users else _ours.connection


def _init(ray: ModuleType, address: str | None, init_kwargs: dict[str, Any]) -> Any:
    options: dict[str, Any] = {"namespace": "prefect", "log_to_driver": False, "logging_level": logging.WARNING}
    if address is None:
        _log.info("Creating a local Ray instance")
        options["dashboard_host"] = "127.0.0.1"
        # Without it, Ray would take part in whatever Ray runs on this machine.
        options["address"] = "local"
    else:
        _log.info("Connecting to an existing Ray instance at %s", address)
        options["address"] = address
        ray_probe.probe(address)
    options |= init_kwargs
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM) if is_main else None
    try:
        with _at_home_on_loopback(ray, options):
            return ray.init(**options)
    except Exception as error:
        what = "started" if address is None else f"connected to at {address!r}"
        raise RunnerError(
            f"Ray could not be {what} with {options}: {describe(error)}{_advice(address, error)}"
        ) from error
    finally:
        if before is not None:
            # Ray sets one that exits; that of the flow run ends the run as Crashed, and the process behind it.
            signal.signal(signal.SIGTERM, before)


@contextmanager
def _at_home_on_loopback(ray: ModuleType, options: dict[str, Any]) -> Iterator[None]:
    """Have a Ray that is started listen on loopback alone, unless the options give it an address of this machine.

    It takes what it believes to be this machine's address, and replaces `_node_ip_address="127.0.0.1"` by the one that others reach; only
    where it supports no clusters, as on macOS, it takes loopback.
    """
    constants = ray._private.ray_constants
    if (
        options.get("address") != "local"
        or "_node_ip_address" in options
        or not hasattr(constants, "ENABLE_RAY_CLUSTER")
    ):
        yield
        return
    before, constants.ENABLE_RAY_CLUSTER = constants.ENABLE_RAY_CLUSTER, False
    try:
        yield
    finally:
        constants.ENABLE_RAY_CLUSTER = before


def _advice(address: str | None, error: Exception) -> str:
    """Say what to do about a Ray client that does not come about."""
    if address is None or not address.startswith("ray://"):
        return ""
    if isinstance(error, ImportError):
        return ". Addresses with ray:// need gRPC: pip install 'ray[client]'"
    return ray_probe.ADVICE


def _check_same(ray: ModuleType, address: str | None) -> None:
    """Raise `RunnerError` if an address is not that of the Ray that this process has."""
    if address in {None, "auto", "local"}:
        return
    is_client = address is not None and address.startswith("ray://")
    here = "a Ray client" if ray.util.client.ray.is_connected() else ray.get_runtime_context().gcs_address
    if here != ("a Ray client" if is_client else address):
        raise RunnerError(
            f"This process is connected to the Ray at {here}, and can't be to the one at {address} at the same time. "
            "Leave the address out to use the one that is connected."
        )


def connection(ray: ModuleType) -> object:
    """Return what tells this process's present part in Ray from any before and after; None without one."""
    if not ray.is_initialized():
        return None
    if ray.util.client.ray.is_connected():
        return getattr(ray.util.client.ray.get_context().client_worker, "_client_id", "client")
    # The first driver of every Ray has the same number.
    here = ray.get_runtime_context()
    return here.get_node_id(), here.get_worker_id()


def has_own_node(ray: ModuleType) -> bool:
    """Tell whether the node lives through which this process takes part in Ray. Raises what Ray raises if its head does not answer.

    Without it nothing is handed over and no value is read any more, though bodies elsewhere may run on. Ray's head takes a quarter of a
    minute to notice, and when it does, Ray may end this process, so the node itself is tried.
    """
    if ray.util.client.ray.is_connected():
        return True
    here = ray.get_runtime_context().get_node_id()
    return any(node["Alive"] and _listens(node) for node in ray.nodes() if node["NodeID"] == here)


def _listens(node: dict[str, Any]) -> bool:
    try:
        socket.create_connection((node["NodeManagerAddress"], node["NodeManagerPort"]), timeout=_PROBE_SECONDS).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        # It may be busy, or out of reach for a moment.
        return True
    return True


def _forget() -> None:
    global _ours
    _ours = _Shared()


os.register_at_fork(after_in_child=_forget)
