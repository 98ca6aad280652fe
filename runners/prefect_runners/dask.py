"""Tasks on a Dask cluster: somebody else's, or one that is started for the flow run."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prefect_core import references
from prefect_core.errors import ConfigurationError, RunnerError
from prefect_core.payload import Payload, Receipt
from prefect_core.task_runners import Host, TaskRunner

if TYPE_CHECKING:
    from prefect_core.references import Reference
    from prefect_runners.dask_session import Session


class DaskTaskRunner(TaskRunner):
    """Runs tasks on a Dask cluster, each attempt as one Dask task. Values stay where they were made, and travel between workers.

    The cluster is the one at `address`, or `cluster` (an object of Dask's), both borrowed and never closed; else one is started for the
    flow run, as `cluster_class(**cluster_kwargs)` (a class, a callable or a dotted name; `distributed.LocalCluster`), and closed with it.
    When the run ends early, bodies that run on are interrupted, as far as Python allows it: a call that blocks outside of it ends first.
    A flow inside of a task on a worker uses the cluster around it, unless it asks for another.

    `adapt_kwargs` are given to the cluster's `adapt`, `client_kwargs` to `distributed.Client`. `performance_report_path` is where Dask
    writes its report of the run. `keep_warm` leaves the cluster to the next flow run of this process with the same settings.
    """

    shares_memory = False
    holds_values = True
    can_cancel_running = True
    takes_chunks = True
    links_chunks = True

    def __init__(
        self,
        cluster: Any = None,
        address: str | None = None,
        cluster_class: str | Callable[..., Any] | None = None,
        cluster_kwargs: Mapping[str, Any] | None = None,
        adapt_kwargs: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        performance_report_path: str | None = None,
        *,
        keep_warm: bool = False,
    ) -> None:
        _check_places(cluster, address, cluster_class, cluster_kwargs, adapt_kwargs)
        _check_managed("cluster_kwargs", cluster_kwargs)
        _check_managed("client_kwargs", client_kwargs)
        if keep_warm and (address is not None or cluster is not None):
            raise ValueError("Cannot specify `keep_warm` and `address`/`cluster`: a borrowed cluster is never closed.")
        self.cluster = cluster
        self.address = address
        self.cluster_class = cluster_class
        self.cluster_kwargs = dict(cluster_kwargs or {})
        self.adapt_kwargs = dict(adapt_kwargs or {})
        self.client_kwargs = dict(client_kwargs or {})
        self.performance_report_path = performance_report_path
        self.keep_warm = keep_warm
        self._session: Session | None = None

    @classmethod
    def from_argument(cls, argument: str) -> DaskTaskRunner:
        return cls(address=argument)

    def options(self) -> dict[str, Any]:
        return {
            "cluster": self.cluster,
            "address": self.address,
            "cluster_class": self.cluster_class,
            "cluster_kwargs": self.cluster_kwargs or None,
            "adapt_kwargs": self.adapt_kwargs or None,
            "client_kwargs": self.client_kwargs or None,
            "performance_report_path": self.performance_report_path,
            "keep_warm": self.keep_warm or None,
        }

    def duplicate(self) -> DaskTaskRunner:
        return _made(type(self), self.options())

    def __reduce__(self) -> tuple[Any, ...]:
        # A task that names this runner may be mentioned by a function that travels.
        options = self.options()
        if self.cluster is not None:
            options |= {"cluster": None, "address": self.cluster.scheduler_address, "adapt_kwargs": None}
        return _made, (type(self), options)

    def start(self, host: Host) -> None:
        """Connect to the cluster, or start it, and check its workers. Raises `RunnerError`, or `ConfigurationError` without Dask."""
        try:
            from prefect_runners.dask_session import Session
        except ModuleNotFoundError as missing:
            if missing.name is None or missing.name.partition(".")[0] not in {"dask", "distributed"}:
                raise
            raise ConfigurationError(
                f"DaskTaskRunner needs Dask, and there is no {missing.name!r} here: pip install 'prefect_core[dask]'."
            ) from missing
        references.let_travel("dask", DaskTaskRunner, lambda theirs: theirs)
        self._session = Session(self, host)
        self._session.start()

    @property
    def client(self) -> Any:
        """The client of a runner that has been started."""
        if self._session is None or self._session.client is None:
            raise RunnerError("The task runner must be started before it has a client.")
        return self._session.client

    def submit(self, payload: Payload, done: Callable[[Receipt], None]) -> None:
        if self._session is None:
            raise RunnerError("The task runner must be started before submitting work.")
        self._session.submit(payload, done)

    def submit_chunk(self, chunk: Sequence[tuple[Payload, Callable[[Receipt], None]]]) -> None:
        if self._session is None:
            raise RunnerError("The task runner must be started before submitting work.")
        self._session.submit_chunk(chunk)

    def may_gather(self, payload: Payload) -> bool:
        return self._session is not None and not self._session.has_options(payload)

    def reference_to(self, payload: Payload) -> Reference | None:
        return self._session.reference_to(payload) if self._session is not None else None

    def cancel(self, payload: Payload) -> bool:
        return self.cancel_many([payload])[0]

    def cancel_many(self, payloads: Collection[Payload]) -> list[bool]:
        """Do what `cancel` does for many, with one question to each worker."""
        return self._session.cancel(payloads) if self._session is not None else [False] * len(payloads)

    def stop(self) -> None:
        if self._session is not None:
            self._session.stop()


def _made(kind: type[DaskTaskRunner], options: dict[str, Any]) -> DaskTaskRunner:
    return kind(**{name: value for name, value in options.items() if value is not None})


def _check_places(*given: Any) -> None:
    cluster, address, cluster_class, cluster_kwargs, adapt_kwargs = given
    if address is not None and not (isinstance(address, str) and address):
        raise TypeError(f"'address' must be a scheduler's address, such as 'tcp://host:8786'; got {address!r}.")
    if address is not None and (cluster is not None or cluster_class is not None or cluster_kwargs or adapt_kwargs):
        raise ValueError("Cannot specify `address` and `cluster`/`cluster_class`/`cluster_kwargs`/`adapt_kwargs`")
    if cluster is not None and (cluster_class is not None or cluster_kwargs):
        raise ValueError("Cannot specify `cluster` and `cluster_class`/`cluster_kwargs`")
    if cluster is not None and not hasattr(cluster, "scheduler_address"):
        raise TypeError(
            f"'cluster' must be a cluster object of Dask, such as distributed.LocalCluster; got {cluster!r}."
        )
    if cluster_class is not None and not isinstance(cluster_class, str) and not callable(cluster_class):
        raise TypeError(f"'cluster_class' must be a class, a callable or its dotted name; got {cluster_class!r}.")


def _check_managed(option: str, given: Mapping[str, Any] | None) -> None:
    if given and "asynchronous" in given:
        raise ValueError(f"`{option}` cannot set `asynchronous`. This option is managed by the task runner.")
