"""Brings the files of shards to the place of the whole run, where one of them is at an address.

A copy may take long, so it is recorded as a run is: `BATCH_FILES` files of whole images at a time are noted, brought,
and recorded. A merge that was stopped goes on with the others.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from surgery.errors import OutputError
from surgery.output.address import Address
from surgery.output.image_records import ImageRecord, ImageRecords
from surgery.output.linking import bring_file, scratch_file
from surgery.output.manifest_reader import ManifestReader, has_manifest, listed_files
from surgery.output.manifest_writer import UNFINISHED, write_manifest
from surgery.output.remote_folder import RemoteFolder
from surgery.output.run_directories import RunDirectories
from surgery.output.tally import Tally
from surgery.output.uploads import FILES_AT_ONCE, BatchUpload, Recorded

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from surgery.interrupts import Interrupts
    from surgery.output.address import Place
    from surgery.output.image_records import RecordedBatch
    from surgery.output.shard_parts import ShardPart
    from surgery.output.workspace import Workspace

BATCH_FILES = 64
"""Files of whole images that are recorded together, or those of one image that has more."""


@dataclass(slots=True)
class _Batch:
    """Whole images of a shard that follow each other, or files of the whole run."""

    part: ShardPart
    images: list[ImageRecord]
    files: list[str]


class ShardCopies:
    """Brings files of shards into the folder of a workspace, or to the address that it is the staging folder of."""

    def __init__(self, parts: Sequence[ShardPart], workspace: Workspace, interrupts: Interrupts) -> None:
        """Ctrl-C is held in `interrupts` but between two batches: a thread that is being started would be lost."""
        self._parts = parts
        self._interrupts = interrupts
        self._workspace = workspace
        self._directories = RunDirectories(workspace.folder, workspace)
        self._target = RemoteFolder(workspace.place) if isinstance(workspace.place, Address) else None

    def bring(self, head: Mapping[str, Any], common: Sequence[str]) -> int:
        """Bring all files that no earlier merge has brought. Return the number of all of them.

        `head` is that of the manifest that says that the merge is not finished. `common` are files of the whole run
        that are the same in all shards that have them. Raises OutputError for a file that is missing, or that can't be
        brought.
        """
        workspace = self._workspace
        before: Iterator[tuple[int, bytes]] = iter(())
        finished: set[int] = set()
        if has_manifest(workspace.folder):  # of this merge, which was stopped
            earlier = ManifestReader(workspace.folder)
            before, finished = earlier.numbered_entries(), Tally.from_manifest(earlier.head).finished
        else:
            begun = {**head, "operations": [], "failed": [], "interrupted": True, "error": UNFINISHED}
            write_manifest(workspace, begun, Tally(), {})
        missing = [] if finished else list(common)
        count = len(common)
        records = ImageRecords(workspace.path, "merge")
        try:
            with ThreadPoolExecutor(FILES_AT_ONCE, "surgery-file") as pool:
                for batch in self._batches():
                    self._interrupts.check()
                    count += len(batch.files)
                    self._check_brought(batch, finished, before)
                    if batch.images:
                        self._bring_batch(batch, missing, records, pool)
                        missing = []
            _check_all_known(before, workspace.place)
            if workspace.uploads is not None:
                workspace.uploads.drain()
        except BaseException as error:
            if workspace.uploads is not None:
                workspace.uploads.abandon(error)
            raise
        finally:
            records.close()
        return count

    def _check_brought(self, batch: _Batch, finished: Container[int], before: Iterator[tuple[int, bytes]]) -> None:
        """Take the images out of a batch that an earlier merge has brought. Raises OutputError if those were others."""
        for image in batch.images:
            if image.number in finished and next(before, None) != (image.number, image.entry):
                place = self._workspace.place
                raise OutputError(
                    f"image {image.number} in {place} is another than in {batch.part.place}, since an earlier merge "
                    "has brought it from another shard; add --overwrite (overwrite=True) to begin anew"
                )
        if any(image.number in finished for image in batch.images):
            batch.images = [image for image in batch.images if image.number not in finished]
            batch.files = [name for image in batch.images for name in listed_files(orjson.loads(image.entry))]

    def _batches(self) -> Iterator[_Batch]:
        """Yield the images of all shards in the order of their numbers."""
        for part in self._parts:
            batch = _Batch(part, [], [])
            for number, entry in part.reader.numbered_entries():
                is_new = not batch.images or batch.images[-1].number != number  # a batch has the number of an image
                if is_new and len(batch.files) >= BATCH_FILES:
                    yield batch
                    batch = _Batch(part, [], [])
                names = listed_files(orjson.loads(entry))
                batch.images.append(ImageRecord(number, len(names), entry))
                batch.files += names
            if batch.images:
                yield batch

    def _bring_batch(
        self, batch: _Batch, common: Sequence[str], records: ImageRecords, pool: ThreadPoolExecutor
    ) -> None:
        """Bring the files of some images, and with the first of them those of the whole run."""
        batch.part.check_files(batch.files)
        number = batch.images[0].number
        shared = {name: self._bring_common(name, number) for name in common}
        for image in batch.images:
            records.add(image)
        tally = Tally(finished={image.number for image in batch.images}, files=len(batch.files), common_files=shared)
        record = records.take_batch(tally.whole_record())
        finish = partial(self._finish, records, number, record)
        bring = partial(self._bring_file, batch.part, number)
        if (uploads := self._workspace.uploads) is None:
            for _ in pool.map(bring, batch.files):
                pass
            for home in {name.rpartition("/")[0] for name in batch.files}:
                self._directories.forget(home)
            finish()
        else:
            uploads.submit(BatchUpload(number, batch.files, sorted(shared), (), finish, bring))

    def _bring_common(self, name: str, number: int) -> str:
        """Bring a file of the whole run into the folder of the workspace. Return its checksum."""
        for part in self._parts:
            known = Tally.from_manifest(part.reader.head).common_files
            if name in known:
                part.check_files([name])
                bring_file(part, name, self._workspace, self._directories, number)
                return known[name]
        raise KeyError(name)

    def _bring_file(self, part: ShardPart, number: int, name: str) -> None:
        """Bring a file of an image to where the run is."""
        if self._target is None:
            bring_file(part, name, self._workspace, self._directories, number)
        elif isinstance(part.place, Address):
            self._copy(RemoteFolder(part.place), self._target, part, name)
        else:
            self._target.put(part.place / name, name)

    def _copy(self, source: RemoteFolder, target: RemoteFolder, part: ShardPart, name: str) -> None:
        """Copy a file from one address to the other: by the file system if it is one, else by the local disk."""
        try:
            if target.copy_from(source, name):
                return
        except OutputError as error:
            if not source.exists(name):
                raise part.explain_missing(name) from error
            raise
        file = scratch_file(self._workspace)
        try:
            if not source.fetch(name, file):
                raise part.explain_missing(name)
            target.put(file, name)
        finally:
            file.unlink(missing_ok=True)

    def _finish(self, records: ImageRecords, number: int, record: RecordedBatch) -> Recorded:
        """Record images whose files are where they belong."""
        content = records.commit(record)
        self._workspace.finish_batch(number)
        return Recorded(content)


def _check_all_known(left: Iterator[tuple[int, bytes]], place: Place) -> None:
    """Raise OutputError if entries of images are left that an earlier merge or run has, and no shard."""
    if next(left, None) is not None:
        raise OutputError(
            f"{place} has images that are in none of the shards; add --overwrite (overwrite=True) to begin anew"
        )
