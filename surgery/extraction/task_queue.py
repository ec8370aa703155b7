"""The images of a run that are left to do, and what becomes of those with which workers are lost."""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

TASK_SECONDS = 1.0
"""How long a task should take: many tasks balance the load, and each costs some milliseconds."""
MAX_LOSSES = 3
"""With so many workers lost, a batch or an image is not tried again."""

Images: TypeAlias = tuple[int, ...]
"""The numbers of images."""


@dataclass(slots=True, eq=False)
class Suspect:
    """A batch with which workers were lost."""

    images: Images
    losses: int = 0
    is_narrowed: bool = False
    """Whether the images that were lost alone are left out already."""
    alone: Counter[int] = field(default_factory=Counter)
    """How many workers were lost with each image when it ran alone."""
    waiting: set[int] = field(default_factory=set)
    """The images of which it is not known yet whether a worker survives them."""


@dataclass(frozen=True, slots=True, eq=False)
class Share:
    """What one task does: some batches."""

    batches: tuple[Images, ...]
    suspect: Suspect | None = None
    is_probe: bool = False
    """Whether one image of a suspect runs alone, and nothing of it is kept."""

    @property
    def images(self) -> Images:
        """The numbers of all images."""
        return tuple(image for batch in self.batches for image in batch)


class TaskQueue:
    """Divides the images of a run into tasks.

    A worker that was lost may have been lost by accident, or through one of its images. So the batches that it leaves
    run one by one. A batch with which a worker is lost again and again is narrowed down: its images run alone, without
    being kept. Those with which workers are lost have failed, and the others run together. So values that depend on
    the batch are those of a run in which the failed images could not be read. If workers are lost with the others too,
    all of them have failed.
    """

    def __init__(self, images: Sequence[int], batch_size: int, *, is_whole: bool = False) -> None:
        """With `is_whole`, one task has all images."""
        self._images = images
        self._batch_size = batch_size
        self._again: deque[Share] = deque()
        """What is tried again, before anything new."""
        self._new = (tuple(batch) for _, batch in groupby(images, lambda image: image // batch_size))
        self._left = 0 if is_whole else sum(1 for _ in groupby(images, lambda image: image // batch_size))
        if is_whole and images:
            self._again.append(Share((tuple(images),)))
        self.lost: dict[int, int] = {}
        """The images that have failed, since workers were lost with them: the number of these workers."""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left to hand out."""
        return not self._left and not self._again

    @property
    def batches(self) -> int:
        """How many batches are left to hand out, at least."""
        return self._left + len(self._again)

    def take(self, workers: int, seconds: float | None = None) -> Share | None:
        """Return what a worker does next, None if nothing is left.

        `seconds` is what a batch takes this worker, if that is known. Towards the end tasks are small, so that all
        `workers` end together.
        """
        if self._again:
            return self._again.popleft()
        if not self._left:
            return None
        count = 1 if seconds is None else int(TASK_SECONDS / max(seconds, 1e-6))
        count = max(1, min(count, self._left // (2 * workers)))
        self._left -= count
        return Share(tuple(next(self._new) for _ in range(count)))

    def give_back(self, share: Share) -> None:
        """Take back what no worker has begun."""
        self._again.appendleft(share)

    def finish(self, share: Share) -> None:
        """Note that a worker has survived a share."""
        if share.is_probe and share.suspect is not None:
            self._conclude(share.suspect, share.images)

    def lose(self, share: Share, finished: Collection[int]) -> None:
        """Note that a worker was lost with a share, of which the images in `finished` are recorded."""
        if share.is_probe and share.suspect is not None:
            (image,) = share.images
            share.suspect.alone[image] += 1
            if share.suspect.alone[image] < MAX_LOSSES:
                self._again.append(share)
            else:
                self._conclude(share.suspect, share.images)
            return
        left = [tuple(image for image in batch if image not in finished) for batch in share.batches]
        left = [batch for batch in left if batch]
        if len(share.batches) > 1:
            self._again.extend(Share((batch,)) for batch in self._batches_of(left))
        elif left:
            self._suspect(share.suspect or Suspect(left[0]), left[0])

    def _batches_of(self, parts: Iterable[Images]) -> Iterable[Images]:
        """Yield the batches of a part of a run."""
        for part in parts:
            for _, batch in groupby(part, lambda image: image // self._batch_size):
                yield tuple(batch)

    def _suspect(self, suspect: Suspect, images: Images) -> None:
        """Try a batch again with which a worker was lost, or find out which image it was."""
        suspect.images = images
        suspect.losses += 1
        if suspect.losses < MAX_LOSSES:
            self._again.append(Share((images,), suspect))
        elif len(images) == 1 or suspect.is_narrowed:
            self.lost |= dict.fromkeys(images, suspect.losses)
        else:
            suspect.waiting = set(images)
            self._again.extend(Share(((image,),), suspect, is_probe=True) for image in images)

    def _conclude(self, suspect: Suspect, images: Images) -> None:
        """Note what is known about an image of a suspect. If it was the last one, go on with the others."""
        suspect.waiting -= set(images)
        if suspect.waiting:
            return
        guilty = {image: count for image, count in suspect.alone.items() if count >= MAX_LOSSES}
        self.lost |= guilty
        if others := tuple(image for image in suspect.images if image not in guilty):
            self._again.append(Share((others,), Suspect(others, is_narrowed=True)))
