"""Which run is this code in, as plain attributes: `runtime.flow_run.name`, `runtime.task_run.parameters`.

Each attribute is found when it is asked for, in the run that asks. Outside of runs they are None, [], {} or 0. An environment variable
such as PREFECT_CORE__RUNTIME__FLOW_RUN__NAME takes the place of an attribute, for tries without a run.
"""

from __future__ import annotations

from prefect_core.runtime import flow_run, task_run

__all__ = ["flow_run", "task_run"]
