"""Whether there is a Ray at an address, found out before Ray itself tries for half a minute or longer."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from prefect_core.errors import RunnerError, describe

_CONNECT_SECONDS = 5.0
_ANSWER_SECONDS = 4.0
_NO_CLIENT_SERVER = ("UNIMPLEMENTED", "UNAVAILABLE", "UNKNOWN", "DEADLINE_EXCEEDED")
"""What comes of asking something else for an answer of Ray's client server."""


def probe(address: str) -> None:
    """Raise `RunnerError` if nobody listens at an address, or nobody that `ray://` could connect to; within 10 s."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    try:
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RunnerError(f"{address!r} is no address of a Ray cluster: {error}.") from error
    if host is None or port is None:
        return
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        raise RunnerError(
            f"There is no Ray at {address!r}: a connection to {host}, port {port} was tried for {_CONNECT_SECONDS:g} s and failed "
            f"({describe(error)}). Start one with `ray start --head`, or leave the address out (RAY_ADDRESS too) to have one started."
        ) from error
    if parts.scheme == "ray":
        _probe_client_server(address, parts.netloc)


def _probe_client_server(address: str, place: str) -> None:
    # Made by tools that leave no types.
    messages: Any
    calls: Any
    try:
        import grpc  # optional: Ray says itself that it is needed
        from ray._private.grpc_utils import init_grpc_channel  # older ones don't have it, and are left to Ray
        from ray.core.generated import ray_client_pb2 as messages
        from ray.core.generated import ray_client_pb2_grpc as calls
    except ImportError:
        return
    ping = messages.ClusterInfoRequest(type=messages.ClusterInfoType.PING)
    try:
        with closing(init_grpc_channel(place)) as channel:
            calls.RayletDriverStub(channel).ClusterInfo(ping, timeout=_ANSWER_SECONDS)
    except grpc.RpcError as error:
        if error.code().name in _NO_CLIENT_SERVER:
            raise RunnerError(
                f"Ray could not be connected to at {address!r}: something listens there, but does not answer as Ray's client server does "
                f"({error.code().name}: {error.details()}){ADVICE}."
            ) from error


ADVICE = (
    ". Check that the port is that of the client server (`ray start --head --ray-client-server-port=10001`), and, if the cluster asks "
    "for a token, that RAY_AUTH_MODE=token is in the environment and the token in ~/.ray/auth_token. From a machine of the cluster, "
    "'auto' or 'host:6379' need neither"
)
"""What to do about a Ray client that does not come about."""
