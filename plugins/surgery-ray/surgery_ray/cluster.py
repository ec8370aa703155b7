"""The connection to Ray: a cluster that is joined, or Ray's processes started on this machine."""

from __future__ import annotations

import math
import os
import signal
import socket
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from surgery.errors import ModelError, describe_os_error, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONNECT_TIMEOUT = 10.0
"""Seconds after which a cluster that doesn't answer counts as not there."""
QUIET = {
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # messages about workers that died, which would be among the run's own
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
"""Variables of the environment with which Ray prints nothing; read when it is imported and when it starts."""


@contextmanager
def connect(address: str) -> Iterator[tuple[Any, bool]]:
    """Yield the module `ray` with a connection to a cluster, and whether that was started here, on this machine.

    The address is ``HOST:PORT``, ``auto`` for a cluster that this machine belongs to, or empty, for the one that the
    environment variable RAY_ADDRESS names, and a new one if it names none. A connection that the process already has is
    used, whatever the address. Only what was begun here is ended.

    Raises ModelError if Ray is not installed, can't be reached or doesn't start.
    """
    with _quiet():
        ray = _import_ray()
        is_ours = not ray.is_initialized()
        if is_ours:
            address = address or os.environ.get("RAY_ADDRESS", "") or "local"
            _check_address(address)
            _start(ray, address)
    try:
        yield ray, is_ours and address == "local"
    finally:
        if is_ours:
            ray.shutdown()


@contextmanager
def _quiet() -> Iterator[None]:
    """Set the variables of `QUIET` that the user has not set, and remove them again."""
    added = {name: value for name, value in QUIET.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _import_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ModelError(f"the engine ray needs the package ray ({first_line(error)}): pip install ray") from error
    return ray


def _check_address(address: str) -> None:
    """Raise ModelError if nobody listens at an address; Ray itself would try for minutes."""
    if address in ("local", "auto"):
        return
    if "://" in address:
        raise ModelError(
            f"{address} is an address of Ray Client, which can't do a run; run the command on a machine of the "
            "cluster, with address=auto"
        )
    host, colon, port = address.rpartition(":")
    if not host or not colon or not port.isdecimal():
        raise ModelError(f"an address of Ray is HOST:PORT, such as 10.0.0.1:6379, or auto; not {address!r}")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_TIMEOUT).close()
    except (OSError, OverflowError) as error:
        reason = describe_os_error(error) if isinstance(error, OSError) else first_line(error)
        raise ModelError(f"no Ray cluster answers at {address}: {reason}") from error


def _start(ray: Any, address: str) -> None:
    """Connect to a cluster, or start one."""
    handler = signal.getsignal(signal.SIGTERM)  # which Ray replaces by its own
    attempts = 2 if address == "local" else 1  # on a busy machine, Ray's processes may take longer than it waits
    try:
        for attempt in range(attempts):
            try:
                ray.init(address=address, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
            except Exception as error:
                ray.shutdown()
                if attempt == attempts - 1:
                    raise ModelError(_describe_failure(address, error)) from error
            else:
                return
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def count_places(ray: Any, needs: Mapping[str, float]) -> int:
    """Return how many workers the machines of the cluster hold, if nothing else runs there."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(min(math.floor(machine.get(name, 0) / amount) for name, amount in needs.items()) for machine in machines)


def _describe_failure(address: str, error: Exception) -> str:
    if address == "local":
        return f"Ray did not start on this machine: {first_line(error)}"
    if address == "auto" and str(error).startswith("Could not find any running"):
        return "no Ray cluster runs on this machine: start it with `ray start`, or leave out address=auto"
    hint = "" if "RAY_AUTH_MODE" in os.environ else " (if it needs a token, set RAY_AUTH_MODE=token)"
    return f"can't join the Ray cluster at {address}: {first_line(error)}{hint}"
