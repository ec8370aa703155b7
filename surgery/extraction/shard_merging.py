"""`merge`: the shards of a run, put together."""

from __future__ import annotations

from itertools import chain
from typing import TYPE_CHECKING

from surgery.extraction.named_stages import StageResolver
from surgery.output import merge_shards
from surgery.plugins import Plugins
from surgery.stages import find_loaders

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Sequence

    from surgery.output import Address, Loader, Report
    from surgery.stages import Sink


def merge(
    *folders: str | os.PathLike[str] | Address,
    out: str | os.PathLike[str] | Address | None = None,
    overwrite: bool = False,
    sinks: Sink | str | Sequence[Sink | str] = (),
    plugins: Plugins | None = None,
) -> Report:
    """Put the shards of a run together, and return the report of the whole run.

    - `folders`: The folders of the shards, or folders that hold them. All shards of the run must be there, finished.
      They may be at addresses, such as ``"s3://bucket/run"``.
    - `out`: The folder or the address of the whole run; by default the one that holds all shards.
    - `overwrite`: Whether to replace a run there.
    - `sinks`: The sinks of the run that gather something over all images, such as statistics, if no plugin offers them.
    - `plugins`: Where sinks are looked up; by default the plugins that the command line finds.

    Files and manifest are, byte for byte, those of `surgery.extract` without `shard`, so the shards can be removed
    afterwards. What sinks have gathered over all images is merged by the sinks. The complete manifest appears last.

    Between folders, the files become hard links to those of the shards where the file system has them, and copies
    elsewhere. What such a merge has left that was killed is removed by the same call, which begins anew. Between
    addresses of one file system, that copies the files itself; otherwise they go through this machine, a few at a time.
    The same call goes on with such a merge that was stopped.

    Raises OutputError if a shard is missing, there twice, not finished or of another run; for other files that belong
    to several images and are not the same in all shards; for what the shards have decided differently; and if a place
    can't be read or written.
    """

    def offered() -> Iterator[Sink]:
        for _, objects in (plugins or Plugins()).iterate_offers("sink"):
            yield from objects.values()

    def find_loader(name: str) -> Loader | None:
        given: Sequence[Sink] = StageResolver(plugins).resolve_all("sink", sinks)
        for sink in chain(given, offered()):
            if (loader := find_loaders([sink]).get(name)) is not None:
                return loader
        return None

    return merge_shards(*folders, out=out, overwrite=overwrite, find_loader=find_loader)
