"""The Dask cluster that a flow run uses: borrowed, which is never closed here; started for the run; or kept warm between runs."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import multiprocessing.process
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import dask.config
import distributed
from distributed.utils import format_dashboard_link

from prefect_core import logs
from prefect_core.errors import ConfigurationError, RunnerError, describe

CONNECT_SECONDS = 8
_CLOSE_SECONDS = 10
_END_WORKER_SECONDS = 0.1


class Wanted(NamedTuple):
    """What a runner was asked for, checked (`DaskTaskRunner`)."""

    cluster: Any
    address: str | None
    cluster_class: Any
    cluster_kwargs: Mapping[str, Any]
    adapt_kwargs: Mapping[str, Any]
    client_kwargs: Mapping[str, Any]
    keep_warm: bool


@dataclass
class Own:
    """A cluster that we started, and the folder for its workers' files."""

    wanted: Wanted
    cluster: Any
    folder: str | None
    users: int = field(default=0)

    def close(self, *, some_run_on: bool = False) -> None:
        """End it with all its processes, and remove its files. Where bodies run on, their workers are not waited for."""
        try:
            if some_run_on and not getattr(self.cluster, "asynchronous", False):
                with contextlib.suppress(Exception):
                    _within(_CLOSE_SECONDS, "end its workers", lambda: self.cluster.sync(_end_workers, self.cluster))
            _within(2 * _CLOSE_SECONDS, "close the cluster", lambda: self.cluster.close(timeout=_CLOSE_SECONDS))
        finally:
            if self.folder is not None:
                shutil.rmtree(self.folder, ignore_errors=True)


class Connection:
    """A client of our own, to a cluster of whichever kind."""

    def __init__(self, wanted: Wanted) -> None:
        self._wanted = wanted
        self._own: Own | None = None
        self._pid = os.getpid()
        self.client: Any = None
        self.place = ""

    @property
    def is_own(self) -> bool:
        """Whether the cluster was started by this process."""
        return self._own is not None

    def open(self) -> None:
        """Connect, and start the cluster first where there is none. Raises `RunnerError` or `ConfigurationError`."""
        wanted = self._wanted
        surrounding = _surrounding_scheduler() if wanted.address is None and wanted.cluster is None else None
        if wanted.address is not None:
            logs.engine_line(None, logs.INFO, f"Connecting to an existing Dask cluster at {wanted.address}")
            self._connect(wanted.address, wanted.address)
        elif wanted.cluster is not None:
            if wanted.adapt_kwargs:
                wanted.cluster.adapt(**wanted.adapt_kwargs)
            self._connect_to_cluster(wanted.cluster)
        elif surrounding is not None and wanted.cluster_class is None and not wanted.cluster_kwargs:
            # The body of a task on a worker: its flows use the cluster around it, and their tasks may need its place.
            _give_place_back()
            self._connect(surrounding, surrounding)
        else:
            self._own = _warm(wanted) if wanted.keep_warm else _started(wanted)
            self._connect_to_cluster(self._own.cluster)
        link = _dashboard_link(self.client)
        if link:
            logs.engine_line(None, logs.INFO, f"The Dask dashboard is available at {link}")

    def _connect_to_cluster(self, cluster: Any) -> None:
        address = cluster.scheduler_address
        if getattr(cluster, "asynchronous", False):
            # It lives on a loop of its user's, which may be the one that waits for us.
            self._connect(address, address, security=cluster.security)
        else:
            self._connect(cluster, address)

    def _connect(self, target: Any, place: str, **more: Any) -> None:
        self.place = place
        given = {"timeout": CONNECT_SECONDS, "set_as_default": False, **more, **self._wanted.client_kwargs}
        try:
            self.client = distributed.Client(target, **given)
        except (OSError, ValueError) as error:
            raise RunnerError(
                f"No Dask scheduler could be reached at {place!r} within {given['timeout']} seconds ({describe(error)}). Check that it "
                "runs, that this is its own address (tcp://host:8786) and not the dashboard's, and that its port can be reached from here."
            ) from error

    def close(self, *, some_run_on: bool = False) -> None:
        """Leave the cluster, and end it if it is ours alone, with bodies that run on. Never blocks for long."""
        if os.getpid() != self._pid:
            # A child made by fork: the connection is its parent's.
            return
        client, own = self.client, self._own
        self._own = None
        try:
            if client is not None:
                _within(_CLOSE_SECONDS, "close the client", lambda: client.close(timeout=_CLOSE_SECONDS / 2))
        finally:
            if own is not None and not own.wanted.keep_warm:
                own.close(some_run_on=some_run_on)


def _give_place_back() -> None:
    """Let the worker begin others while the task on this thread waits for what its flow submits. The place is not taken again."""
    try:
        distributed.secede()
    except (AttributeError, KeyError, ValueError):
        # Not the task's own thread, or one that has done so.
        return


def _dashboard_link(client: Any) -> str | None:
    link: str | None = client.dashboard_link
    if not link:
        # A cluster that has just been started does not know its own yet.
        port = client.scheduler_info()["services"].get("dashboard")
        protocol, _, place = client.scheduler.address.partition("://")
        host = "localhost" if protocol == "inproc" else place.partition(":")[0]
        link = format_dashboard_link(host, port) if port else None
    return link


def _surrounding_scheduler() -> str | None:
    """Return the address of the scheduler whose worker runs the task that this is called in, if one does."""
    try:
        worker = distributed.get_worker()
    except ValueError:
        return None
    return str(worker.scheduler.address)


_warm_clusters: list[Own] = []
_warm_lock = threading.Lock()


def _warm(wanted: Wanted) -> Own:
    """Return the cluster of this process with these settings that earlier runs have left, or start it. Dask closes it at exit."""
    alike = wanted._replace(client_kwargs={})
    with _warm_lock:
        for known in list(_warm_clusters):
            if known.cluster.status is not distributed.Status.running:
                _warm_clusters.remove(known)
            elif known.wanted == alike:
                return known
        own = _started(alike)
        _warm_clusters.append(own)
        return own


def close_warm_clusters() -> None:
    """End the clusters that `keep_warm` has kept. For the end of a program that goes on with something else."""
    with _warm_lock:
        while _warm_clusters:
            _warm_clusters.pop().close()


def _started(wanted: Wanted) -> Own:
    if getattr(multiprocessing.process.current_process(), "_inheriting", False):
        raise RunnerError(
            "A Dask worker process imports the script that started it, and the script would start its flow there once more. "
            'Call the flow below `if __name__ == "__main__":`.'
        )
    cluster_class = _resolved(wanted.cluster_class)
    given, folder = dict(wanted.cluster_kwargs), None
    if isinstance(cluster_class, type) and issubclass(cluster_class, distributed.LocalCluster):
        # Dask's own default is every interface.
        given.setdefault("host", "127.0.0.1") if _is_tcp(given) else None
        given.setdefault("dashboard_address", "127.0.0.1:0")
        if "local_directory" not in given:
            folder = given["local_directory"] = tempfile.mkdtemp(prefix="prefect-core-dask-")
    name = _name_of(cluster_class)
    logs.engine_line(None, logs.INFO, f"Creating a new Dask cluster with `{name}`")
    try:
        cluster = cluster_class(**given)
    except Exception as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise RunnerError(
            f"The Dask cluster could not be started with {name}({_shown(given)}): {describe(error)}{_hint(error)}"
        ) from error
    own = Own(wanted, cluster, folder)
    try:
        if wanted.adapt_kwargs:
            cluster.adapt(**wanted.adapt_kwargs)
    except BaseException:
        own.close()
        raise
    return own


def _name_of(cluster_class: Callable[..., Any]) -> str:
    name = getattr(cluster_class, "__qualname__", None)
    # A callable may be an object, such as a partial.
    return f"{cluster_class.__module__}.{name}" if name is not None else repr(cluster_class)


def _hint(error: BaseException) -> str:
    """Say what may be to do where worker processes did not start: they import the script, of which only they know that it is at fault."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None or "Nanny failed" not in str(error):
        return ""
    return (
        f" Its worker processes ended as they started; what they wrote stands above. Each of them imports {script}: if that calls its "
        'flow, put the call below `if __name__ == "__main__":`.'
    )


def _is_tcp(given: Mapping[str, Any]) -> bool:
    is_inproc = given.get("processes") is False and not given.get("scheduler_port")
    return not is_inproc and not given.get("interface") and not given.get("protocol")


def _shown(given: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in given.items())


def _resolved(cluster_class: Any) -> Callable[..., Any]:
    cluster_class = cluster_class or distributed.LocalCluster
    if not isinstance(cluster_class, str):
        return cast("Callable[..., Any]", cluster_class)
    module, _, name = cluster_class.rpartition(".")
    try:
        named: Callable[..., Any] = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            "'cluster_class' must be a class, a callable or its dotted name, such as 'distributed.LocalCluster'; "
            f"{cluster_class!r} can't be imported: {describe(error)}."
        ) from error
    return named


async def _end_workers(cluster: Any) -> None:
    """End the worker processes of a cluster of this machine; Dask itself gives each four seconds to end what it runs."""
    nannies = [one for one in cluster.workers.values() if isinstance(one, distributed.Nanny)]
    await asyncio.gather(*(nanny.close(timeout=_END_WORKER_SECONDS) for nanny in nannies))


def _within(seconds: float, what: str, work: Callable[[], object]) -> None:
    """Do `work` on a thread of its own and wait for it; a scheduler that is gone must not keep the run from ending."""
    failures: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=guarded, name="prefect-core-dask-close", daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise RunnerError(f"Dask could not {what} within {seconds} seconds.")
    if failures and not isinstance(failures[0], OSError | TimeoutError):
        raise failures[0]


@contextlib.contextmanager
def large_graphs_allowed() -> Any:
    """Let Dask take a large argument without a warning: what to do about it stands in our own documentation."""
    with dask.config.set({"distributed.admin.large-graph-warning-threshold": "1 TiB"}):
        yield
