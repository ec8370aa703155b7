"""The worker's side of the engine `processes`."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from queue import SimpleQueue
from threading import Event, Thread
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from multiprocessing.connection import Connection

    from surgery.stages import Job, Task

PARENT_CHECK_INTERVAL = 0.2
"""Seconds between two checks of a worker that its parent process still exists."""
STOP, END = "stop", "end"
"""In place of a task: leave the rest of all tasks; end the process."""


def serve(job: Job, connection: Connection, inherited: Sequence[Connection], parent: int) -> None:
    """Do the tasks that come by a connection, and send their messages, until this process is ended.

    `inherited` are the ends of connections that are another process's, and `parent` is the number of the process that
    started this one. If that has ended, so does this one, since its output would be left unfinished.
    """
    import torch  # here, so that engines can be listed without it

    for other in inherited:
        other.close()
    torch.set_num_threads(1)
    tasks: SimpleQueue[Task | None] = SimpleQueue()
    is_stopped = Event()
    listener = Thread(target=_listen, args=(connection, tasks, is_stopped, parent), name="surgery-parent", daemon=True)
    listener.start()
    # An error means that the parent can't be reached, and Ctrl-C comes here when it was pressed again and again.
    with suppress(OSError, KeyboardInterrupt), job.open() as worker:
        while (task := tasks.get()) is not None:
            worker.run(task, connection.send, is_stopped.is_set)


def _listen(connection: Connection, tasks: SimpleQueue[Task | None], is_stopped: Event, parent: int) -> None:
    """Take what the parent sends. End this process when the parent has ended."""
    try:
        while True:
            while not connection.poll(PARENT_CHECK_INTERVAL):
                if sys.platform != "win32" and os.getppid() != parent:
                    os._exit(1)
            message = connection.recv()
            if message == STOP:
                is_stopped.set()
            else:
                tasks.put(None if message == END else message)
    except (EOFError, OSError):
        os._exit(1)
