"""The engine `ray`: what a worker needs, and how many there are."""

from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from surgery.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from surgery.stages import Job, Workers


@dataclass(frozen=True, slots=True)
class Ray:
    """Runs the model in workers of a Ray cluster, or in processes that Ray starts on this machine.

    All machines need the same files at the same paths (inputs, weights, the output folder) and the same packages.
    Workers for which there is no place at once join when there is one.
    """

    workers: int = 0
    """How many workers; 0 for as many as the cluster holds, and never more than there are batches."""
    cpus: float = 1.0
    """CPUs that Ray reserves for each worker. It has as many threads of torch, and at least one."""
    gpus: float | None = None
    """GPUs that Ray reserves for each worker; with 0.5, two share one. By default 1 if the model runs on a GPU."""
    address: str = ""
    """``HOST:PORT`` of a cluster's head, or ``auto`` for the cluster that this machine belongs to. By default the one
    that the environment variable RAY_ADDRESS names; if it names none, Ray is started on this machine for this run."""
    wait: float = 60.0
    """Seconds to wait for a worker, as long as a cluster has no place for any."""

    def __post_init__(self) -> None:
        for name in ("workers", "cpus", "gpus", "wait"):
            value = getattr(self, name) or 0
            if not (math.isfinite(value) and value >= 0):
                raise ModelError(f"{name} of ray is 0 or more, not {value}")
            if name in ("cpus", "gpus") and value > 1 and value != int(value):
                raise ModelError(f"{name} of ray is a whole number or a part of 1, not {value:g}")

    @contextmanager
    def __call__(self, job: Job, /) -> Iterator[Workers]:
        from surgery_ray.cluster import connect, count_places

        needs = self._find_needs(job.device)
        with connect(self.address) as (ray, is_ours):
            from surgery_ray.actors import Actors, list_resources
            from surgery_ray.ray_workers import RayWorkers
            from surgery_ray.remote_worker import Surroundings

            places = count_places(ray, needs)
            if is_ours and places < max(1, self.workers):
                raise ModelError(
                    f"this machine has place for {places} workers of ray with {list_resources(needs, needs)} each, not "
                    f"for {max(1, self.workers)}"
                )
            count = max(1, min(self.workers or places, job.batches))
            surroundings = Surroundings.of_this_process(max(1, int(self.cpus)))
            actors = Actors(ray, job.pack(ray.cloudpickle), surroundings, needs)
            with RayWorkers(actors, count, self.wait) as workers:
                yield workers

    def _find_needs(self, device: str) -> Mapping[str, float]:
        """Return the resources of Ray that a worker takes."""
        is_on_gpu = device.startswith("cuda")
        gpus = (1.0 if is_on_gpu else 0.0) if self.gpus is None else self.gpus
        if is_on_gpu and not gpus:
            raise ModelError(f"the model runs on {device}, so each worker of ray needs a GPU: leave out gpus=0")
        if is_on_gpu and device not in ("cuda", "cuda:0"):
            raise ModelError("Ray chooses the GPU of each worker, which is cuda:0 there: use --device cuda")
        if gpus and not is_on_gpu:
            raise ModelError(f"gpus={gpus:g} of ray is for a model on a GPU, and this one runs on {device}")
        return {name: amount for name, amount in (("CPU", self.cpus), ("GPU", gpus)) if amount}
