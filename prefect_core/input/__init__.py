"""What flow runs are given while they are under way: forms for those that pause, and inputs that are sent and received."""

from __future__ import annotations

from prefect_core.input.receiving import InputReceiver
from prefect_core.input.run_input import (
    AutomaticRunInput,
    RunInput,
    RunInputMetadata,
    keyset_from_paused_state,
    receive_input,
    send_input,
)
from prefect_core.input_forms import InvalidInput

__all__ = [
    "AutomaticRunInput",
    "InputReceiver",
    "InvalidInput",
    "RunInput",
    "RunInputMetadata",
    "keyset_from_paused_state",
    "receive_input",
    "send_input",
]
