"""Whether Ray can ever run what asks for resources; asked when something is submitted that asks for some."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from prefect_core.errors import RunnerError
from prefect_runners.ray_cluster import Lease
from prefect_runners.shortages import fits, problem, told

_log = logging.getLogger("prefect_core.task_runner.ray")
_NAMES = {"num_cpus": "CPU", "num_gpus": "GPU", "memory": "memory"}
"""What Ray's nodes call the resources that it has options for."""
_SLACK = 1e-9
_AUTOSCALER_STATUS = "__autoscaling_status"
_KIND_OF_ONE_NODE = re.compile("node_[0-9a-f]+")


class Limits:
    """The resources of each node of a Ray, as they were when somebody last asked for more."""

    def __init__(self, lease: Lease) -> None:
        self._lease = lease
        self._nodes: list[Mapping[str, float]] = []
        self._warned: set[str] = set()

    def check(self, name: str, options: Mapping[str, Any]) -> None:
        """Raise `RunnerError` for options that no node can satisfy; a warning where the cluster may grow."""
        wanted = {_NAMES[option]: options[option] for option in _NAMES if options.get(option)}
        wanted |= options.get("resources") or {}
        if not wanted or self._fits(wanted):
            return
        self._nodes = [node["Resources"] for node in self._lease.ray.nodes() if node["Alive"]]
        if not self._nodes or self._fits(wanted):
            return
        said, what = problem(name, wanted, self._nodes, "no node of this Ray"), told(wanted)
        if not self._may_grow():
            raise RunnerError(
                f"{said} It would wait for ever. Ask for less, or start Ray with more (init_kwargs={{'num_cpus': ...}}) "
                "or a node that has it."
            )
        if what not in self._warned:
            self._warned.add(what)
            _log.warning("%s It waits until Ray's autoscaler adds one.", said)

    def _fits(self, wanted: Mapping[str, float]) -> bool:
        return fits(wanted, self._nodes, _SLACK)

    def _may_grow(self) -> bool:
        if self._lease.is_local or _is_head_here(self._lease.ray):
            return False
        from ray import _raylet  # heavy, and loaded by now
        from ray.experimental import internal_kv

        status = internal_kv._internal_kv_get(_AUTOSCALER_STATUS)
        if status:
            return may_grow_by(status)
        namespace = getattr(_raylet, "GCS_AUTOSCALER_STATE_NAMESPACE", None)
        key = getattr(_raylet, "GCS_AUTOSCALER_CLUSTER_CONFIG_KEY", None)
        return bool(namespace and key and internal_kv._internal_kv_get(key, namespace=namespace))


def _is_head_here(ray: ModuleType) -> bool:
    """Tell whether this process started the head, which then has no configuration to grow by."""
    node = getattr(ray._private.worker, "_global_node", None)
    return node is not None and bool(node.is_head())


def may_grow_by(status: bytes) -> bool:
    """Tell by what Ray's monitor reports whether it starts nodes: one that only looks on gives each node a type of its own."""
    report = json.loads(status).get("autoscaler_report") or {}
    kinds = {*(report.get("active_nodes") or ()), *(report.get("node_type_mapping") or {}).values()}
    # It has not reported yet, or it knows kinds of nodes.
    return not kinds or not all(_KIND_OF_ONE_NODE.fullmatch(kind) for kind in kinds)
