"""The engines that come with the project: this process, and worker processes on this machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.builtin.engines.local import Local
from surgery.builtin.engines.processes import Processes

if TYPE_CHECKING:
    from surgery.stages import Engine

ENGINES: dict[str, Engine] = {"local": Local(), "processes": Processes()}

__all__ = ["ENGINES", "Local", "Processes"]
