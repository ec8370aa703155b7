"""The actors of a job: started, listened to and ended."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from surgery.errors import first_line
from surgery_ray.remote_worker import RemoteWorker

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from surgery.stages import Job, Task
    from surgery_ray.remote_worker import Surroundings

MESSAGES = "messages"
"""The concurrency group of `RemoteWorker.listen`: a thread beside the one of the other methods."""
END_TIMEOUT = 10.0
"""Seconds to wait for actors to end."""
END_MARGIN = 0.1
"""Seconds from Ray's word that an actor has ended to the end of its process; some hundredths were measured."""


@dataclass(eq=False, slots=True)
class Actor:
    """A `RemoteWorker`, seen from here. Ray may not have found a place for it yet."""

    handle: Any
    messages: Any
    """A generator of Ray, with what `RemoteWorker.listen` yields."""
    has_started: bool = False
    tasks: list[int] = field(default_factory=list)
    """The numbers of the tasks that it has, in their order."""

    def submit(self, number: int, task: Task) -> None:
        """Send a task to the actor."""
        self.tasks.append(number)
        self.handle.submit.remote(number, task)


class Actors:
    """The actors that have opened a job, or will have."""

    def __init__(self, ray: Any, job: Job, surroundings: Surroundings, needs: Mapping[str, float]) -> None:
        """`job` is packed. `needs` are the resources of Ray that each actor takes: ``CPU``, ``GPU``."""
        self._ray = ray
        self._arguments = ray.put(job), surroundings  # the job is sent to a machine once, not once an actor
        make_actor_class = ray.remote(
            num_cpus=needs.get("CPU", 0), num_gpus=needs.get("GPU", 0), concurrency_groups={MESSAGES: 1}
        )
        self._actor_class = make_actor_class(RemoteWorker)
        self._needs = needs
        self._is_stopped = False
        self.all: list[Actor] = []

    @property
    def started(self) -> list[Actor]:
        """Those that have started."""
        return [actor for actor in self.all if actor.has_started]

    def start(self) -> None:
        """Ask Ray for one more."""
        handle = self._actor_class.remote(*self._arguments)
        if self._is_stopped:
            handle.stop.remote()
        self.all.append(Actor(handle, handle.listen.options(concurrency_group=MESSAGES).remote()))

    def wait(self, seconds: float) -> list[Actor]:
        """Wait at most so long for messages. Return those that have sent something, and those that are gone."""
        actors = {actor.messages: actor for actor in self.all}
        ready, others = self._ray.wait(list(actors), timeout=seconds)
        if ready and others:
            ready += self._ray.wait(others, num_returns=len(others), timeout=0)[0]
        return [actors[messages] for messages in ready]

    def receive(self, actor: Actor) -> Any:
        """Return the next message of one that `wait` returned. Raises an error of Ray if it is gone."""
        return self._ray.get(next(actor.messages))

    def stop(self) -> None:
        """Tell all, and those that will start, to leave the rest of their tasks."""
        self._is_stopped = True
        for actor in self.all:
            actor.handle.stop.remote()

    def end(self, actors: Sequence[Actor]) -> None:
        """End some, whatever they do. Their processes have ended when this returns."""
        for actor in actors:
            self._ray.kill(actor.handle)
        calls = [actor.handle.stop.remote() for actor in actors]  # which fail when Ray knows that the actor is gone
        if calls:
            self._ray.wait(calls, num_returns=len(calls), timeout=END_TIMEOUT)
            time.sleep(END_MARGIN)
        self.all = [actor for actor in self.all if actor not in actors]

    def describe_lack(self) -> str:
        """Return what each needs, and what the cluster has."""
        needs, there, free = (
            list_resources(amounts, self._needs)
            for amounts in (self._needs, self._ray.cluster_resources(), self._ray.available_resources())
        )
        return f"each needs {needs}, and the cluster has {there}, of which {free} are free"


def list_resources(amounts: Mapping[str, float], names: Iterable[str]) -> str:
    """Return amounts of some resources of Ray, in words."""
    return " and ".join(f"{amounts.get(name, 0):g} {name}" for name in names)


def has_refused(error: Exception) -> bool:
    """Return whether an actor is gone since it raised an error when it started, as another in its place would."""
    return bool(getattr(error, "actor_init_failed", False))


def describe_loss(error: Exception) -> str:
    """Return what happened to an actor, in words that follow "a worker". The error is what `Actors.receive` raised."""
    text = str(error)
    if has_refused(error):  # the last line of a traceback
        return f"could not start: {text.strip().splitlines()[-1].removeprefix('surgery.errors.ModelError: ')}"
    if "low on memory" in text or "OutOfMemory" in text:
        return "was ended by Ray, since the memory of its machine was full"
    if "node has died" in text or "node was terminated" in text:
        return "went away with its machine"
    if hasattr(error, "actor_init_failed"):  # which errors about actors have, and no other
        return "was killed or has crashed; the system kills it when memory runs out"
    return f"sent what can't be read: {type(error).__name__}: {first_line(error)}"
