"""The workers of a job, by number, and the actors that do what is submitted to these numbers."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from surgery.errors import ModelError
from surgery.stages import Lost
from surgery_ray.actors import describe_loss, has_refused
from surgery_ray.remote_worker import TASK_DONE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from surgery.stages import Deliver, Task
    from surgery_ray.actors import Actor, Actors

MAX_FAILED_STARTS = 3
"""Actors that fail to start, one after the other, until that is an error."""
PATIENCE = 10.0
"""Seconds for which the tasks of a number wait for an actor in place of a lost one. Then they go to another actor."""


@dataclass(eq=False, slots=True)
class _Place:
    """A number of a worker, and its actor."""

    number: int
    actor: Actor | None = None
    waiting: list[Task] = field(default_factory=list)
    """Tasks that came while there was no actor."""
    empty_since: float = 0.0


class RayWorkers:
    """As many workers as actors have started. Another actor takes the place of one that is gone.

    The first worker has its number before its actor starts. If Ray finds no place for an actor for long, as when a
    machine went away for good, what is submitted to its number is done by another.
    """

    def __init__(self, actors: Actors, wanted: int, wait: float) -> None:
        """`wanted` is the number of workers, and `wait` are the seconds for which there may be no actor at all."""
        self._actors = actors
        self._wanted = wanted
        self._wait = wait
        self._places = [_Place(0)]
        self._failed_starts = 0
        self._has_lost = False
        self._is_stopped = False
        self._alone_since = 0.0

    def __enter__(self) -> Self:
        self._alone_since = time.monotonic()
        try:
            for _ in range(self._wanted):
                self._actors.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        """End all workers, whatever they do."""
        self._actors.end(self._actors.all)

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return len(self._places)

    def submit(self, worker: int, task: Task, /) -> None:
        """Hand a task to the worker with a number."""
        self._places[worker].waiting.append(task)
        self._hand_on_tasks()

    def receive(self, deliver: Deliver, seconds: float, /) -> None:
        """Deliver what has come from the workers, and ask Ray for others in place of those that are gone.

        Raises ModelError if there are no workers, and Ray starts none.
        """
        end = time.monotonic() + seconds
        while not self._receive_once(deliver, max(0.0, end - time.monotonic())) and time.monotonic() < end:
            pass

    def stop(self) -> None:
        """Tell all workers to leave the rest of their tasks."""
        self._is_stopped = True
        self._actors.stop()

    def _receive_once(self, deliver: Deliver, seconds: float) -> bool:
        """Wait for messages, at most so many seconds. Return whether something was delivered."""
        is_delivered = False
        for actor in self._actors.wait(seconds):
            if actor in self._actors.all:  # it may have been ended since
                is_delivered |= self._take_message(actor, deliver)
        self._find_places()
        self._hand_on_tasks()
        return self._check_workers(deliver) or is_delivered

    def _take_message(self, actor: Actor, deliver: Deliver) -> bool:
        """Deliver the next message of an actor, or what became of it. Return whether there was something to deliver."""
        try:
            content = self._actors.receive(actor)
        except Exception as error:  # noqa: BLE001 - of Ray, or of a message that can't be read
            return self._replace(actor, error, deliver)
        if content is None:
            actor.has_started = True
            self._failed_starts = 0
            return False
        number, message = content
        if message is TASK_DONE:
            actor.tasks.remove(number)
            return False
        deliver(number, message)
        return True

    def _replace(self, gone: Actor, error: Exception, deliver: Deliver) -> bool:
        """Ask Ray for an actor in the place of one that is gone. Return whether the loss of a worker was delivered."""
        lost = self._find_lost(gone)
        self._actors.end(lost)
        if not gone.has_started:
            self._retry_start(error)
            return False
        self._has_lost = True
        for _ in lost:
            self._actors.start()
        numbers = {number for actor in lost for number in actor.tasks}
        for place in self._places:
            if place.actor in lost:
                place.actor = None
                place.empty_since = time.monotonic()
                numbers.add(place.number)
        self._lose(numbers, describe_loss(error), deliver)
        return bool(numbers)

    def _retry_start(self, error: Exception) -> None:
        """Ask Ray for another actor in the place of one that did not start, unless that is of no use.

        Raises ModelError if no other has started, or if no worker was lost before: then something is not in order.
        """
        self._failed_starts += 1
        if not has_refused(error) and self._failed_starts < MAX_FAILED_STARTS:
            self._actors.start()
        elif not (self._has_lost and self._actors.started):
            raise ModelError(f"a worker of Ray {describe_loss(error)}") from error

    def _lose(self, numbers: Iterable[int], reason: str, deliver: Deliver) -> None:
        """Forget the tasks of some numbers, and deliver that their workers are lost."""
        for number in sorted(numbers):
            self._places[number].waiting.clear()
            deliver(number, Lost(reason))

    def _find_lost(self, gone: Actor) -> list[Actor]:
        """Return an actor that is gone, and those that have other tasks of its numbers, which count as lost too."""
        lost = [gone]
        for actor in lost:
            numbers = {*actor.tasks, *(place.number for place in self._places if place.actor is actor)}
            lost += [other for other in self._actors.all if other not in lost and numbers & set(other.tasks)]
        return lost

    def _find_places(self) -> None:
        """Give each actor that has started a number: one that has no actor, or a new one."""
        taken = [place.actor for place in self._places]
        for actor in self._actors.started:
            if actor in taken:
                continue
            place = next((place for place in self._places if place.actor is None), None)
            if place is not None:
                place.actor = actor
            elif len(self._places) < self._wanted:
                self._places.append(_Place(len(self._places), actor))

    def _hand_on_tasks(self) -> None:
        """Send tasks to actors: to that of their number, or to another if it doesn't come."""
        for place in self._places:
            if place.waiting and (actor := place.actor or self._find_substitute(place)) is not None:
                for task in place.waiting:
                    actor.submit(place.number, task)
                place.waiting.clear()

    def _find_substitute(self, place: _Place) -> Actor | None:
        """Return the actor with the fewest tasks, once a place has been empty for long."""
        if time.monotonic() - place.empty_since < PATIENCE:
            return None
        return min(self._actors.started, key=lambda actor: len(actor.tasks), default=None)

    def _check_workers(self, deliver: Deliver) -> bool:
        """Look whether there are actors. Without any, tell at a stop that tasks are lost. Return whether it was told.

        Raises ModelError if there has been none for long.
        """
        if self._actors.started:
            self._alone_since = time.monotonic()
            return False
        if self._is_stopped:
            numbers = [place.number for place in self._places if place.waiting]
            self._lose(numbers, "has not started", deliver)
            return bool(numbers)
        if time.monotonic() - self._alone_since >= self._wait:
            raise ModelError(
                f"Ray has started no worker within {self._wait:g} s: {self._actors.describe_lack()} "
                "(wait=600 waits for ten minutes)"
            )
        return False
