"""The right of one run to write to an address, which no file system locks: an object that says who writes."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from surgery.errors import OutputError
from surgery.output.json_values import as_json
from surgery.text import WORK_FOLDER

if TYPE_CHECKING:
    from surgery.output.remote_folder import RemoteFolder

CLAIM = f"{WORK_FOLDER}/lock"
RENEWAL_INTERVAL = 60.0
"""Seconds after which a run says again that it writes."""
LAPSE_MINUTES = 15
"""Minutes after which a run that has not said so again is taken to be gone."""


@dataclass(slots=True)
class RemoteClaim:
    """The right to write to an address, which all processes of a run share. It can be pickled.

    `owner` is the same for all runs of which this machine lets only one exist at a time.
    """

    remote: RemoteFolder
    owner: str
    process: int
    token: str = field(default_factory=lambda: uuid4().hex)
    _renewed: float = 0.0

    def acquire(self) -> None:
        """Take the right. Raises OutputError if another run has it, or if the address can't be written."""
        for _ in range(3):  # others may take it, or give it up, in between
            if self.remote.create(CLAIM, self._content()) and self._is_own(self._read()):
                self._renewed = time.monotonic()
                return
            if (found := self._read()) is not None and not self._has_lapsed(found):
                raise OutputError(self._explain(found))
            self.remote.remove([CLAIM])
        raise OutputError(f"other runs are about to write to {self.remote.address}; wait for their end")

    def renew(self) -> None:
        """Say again that this run writes, if it is time. Raises OutputError if another run has taken the right."""
        if time.monotonic() - self._renewed < RENEWAL_INTERVAL:
            return
        if not self._is_own(self._read()):
            raise OutputError(
                f"another run has begun to write to {self.remote.address}, since this one was not heard of for "
                f"{LAPSE_MINUTES} minutes; the same command goes on when that one has ended"
            )
        self.remote.write(CLAIM, self._content())
        self._renewed = time.monotonic()

    def release(self) -> None:
        """Give the right up."""
        if self._is_own(self._read()):
            self.remote.remove([CLAIM])

    def _content(self) -> bytes:
        about = {"host": socket.gethostname(), "process": self.process, "time": time.time()}
        return as_json({**about, "owner": self.owner, "token": self.token})

    def _read(self) -> dict[str, Any] | None:
        """Return what is known of the run that has the right; None if no run has it."""
        content = self.remote.read(CLAIM)
        if content is None:
            return None
        try:
            found = json.loads(content)
        except (ValueError, RecursionError):
            found = None
        return found if isinstance(found, dict) else {}

    def _is_own(self, found: dict[str, Any] | None) -> bool:
        return found is not None and found.get("token") == self.token

    def _has_lapsed(self, found: dict[str, Any]) -> bool:
        """Return whether a run is gone: its machine says so, or it was not heard of for long."""
        return found.get("owner") == self.owner or abs(_age(found)) > LAPSE_MINUTES * 60

    def _explain(self, found: dict[str, Any]) -> str:
        minutes = max(0, int(_age(found) / 60))
        process = f"process {found.get('process')} on {found.get('host')}"
        return (
            f"another run writes to {self.remote.address} ({process}, heard from {minutes} min ago); wait for its end, "
            f"or write to another address; if it was killed, wait until it has been silent for {LAPSE_MINUTES} min, or "
            f"remove {self.remote.address / CLAIM}"
        )


def _age(found: dict[str, Any]) -> float:
    """Return the seconds since a run was heard of last; infinite if that can't be read."""
    said = found.get("time")
    return time.time() - said if isinstance(said, (int, float)) else float("inf")
