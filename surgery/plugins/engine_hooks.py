"""Hooks that offer what runs the batches of a run: engines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from surgery.plugins.hook_markers import hookspec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from surgery.stages import Engine


@hookspec
def surgery_engines() -> Mapping[str, Engine]:  # type: ignore[empty-body]
    """Offer engines: what runs the batches of a run, in processes of its own or on other machines.

    **Called:** at most once, when an engine is requested by name or everything is listed.

    **Takes:** nothing.

    **Returns:** a mapping from names to engines. An engine takes a job, and returns a context manager that yields its
    workers. `surgery.stages.Engine` says what these are. A run gives each worker one task after the other, receives
    their messages, and tries again what a lost worker leaves: order, retries, progress and the manifest are not the
    engine's.

    **Several:** all names can be used. A run has one engine.

    **Example**, for `surgery extract --plugin threads.py --engine turns`, whose workers take turns in this process:

    ```python
    from contextlib import ExitStack, contextmanager
    from functools import partial

    import surgery


    class Turns:
        def __init__(self, workers):
            self.workers, self.count, self.tasks, self.is_stopped = workers, len(workers), [], False

        def submit(self, worker, task):
            self.tasks.append((worker, task))

        def receive(self, deliver, seconds):
            for worker, task in [self.tasks.pop(0)] if self.tasks else []:
                self.workers[worker].run(task, partial(deliver, worker), lambda: self.is_stopped)

        def stop(self):
            self.is_stopped = True


    @contextmanager
    def turns(job):
        packed = job.pack()
        with ExitStack() as stack:
            yield Turns([stack.enter_context(packed.open()) for _ in range(2)])


    @surgery.hookimpl
    def surgery_engines():
        return {"turns": turns}
    ```
    """
