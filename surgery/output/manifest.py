"""The manifest of a run: its records while it goes on, and the file `manifest.json`."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from surgery.errors import first_line
from surgery.output.gathering import GatheredSums, MergedFiles
from surgery.output.image_records import ImageRecord, ImageRecords, RecordedBatch
from surgery.output.json_values import as_json, encodable
from surgery.output.manifest_entries import activation_entry, operation_entry, run_entry, summary_entry, trace_entries
from surgery.output.manifest_reader import ManifestReader, flat_settings, has_manifest, listed_checksums, listed_files
from surgery.output.manifest_writer import UNFINISHED, read_tally, write_manifest
from surgery.output.notes import format_notes, merge_notes
from surgery.output.run_identity import PLAN
from surgery.output.shards import SHARD
from surgery.output.tally import Tally
from surgery.output.uploads import BatchUpload, Recorded
from surgery.text import BATCH_FOLDER, sanitize_path_part, sortable_number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import nn

    from surgery.graph import TraceInfo
    from surgery.output.failures import Failure
    from surgery.output.folder import WrittenFile
    from surgery.output.gathered import Gathered, Loader
    from surgery.output.notes import Notes
    from surgery.output.shards import Shard
    from surgery.output.workspace import Workspace
    from surgery.types import Activation, Operation


class Manifest:
    """Records what a run does, image by image, in its workspace. Memory does not grow with the number of images."""

    def __init__(self, head: dict[str, Any]) -> None:
        self.head: dict[str, Any] = json.loads(json.dumps(encodable(head)))  # the same values as in the file
        self.about = {name: str(value) for name, value in flat_settings(self.head)}
        self._open: dict[str | None, dict[str, Any]] = {}
        """Entries of unfinished images by name, and under None that of the batch."""
        self._run_files: dict[str, str | None] = {}
        self._batch = Tally()
        """What the batch adds up to whose images are finished next."""
        self._batch_files: list[str] = []
        self._batch_images: list[str] = []
        """The files and the images of that batch, if it is to be taken to an address."""
        self._unwritten: list[tuple[int, RecordedBatch]] = []
        """The batches that are recorded together, with their numbers, when what is gathered of them is saved."""
        self._sums = GatheredSums()
        self._operations: tuple[Operation, ...] = ()
        self.is_complete = False
        """Whether the manifest in the folder is of this run, which nothing has stopped."""
        self._earlier_failures: list[dict[str, Any]] = []
        """Those of an earlier run that this one goes on with."""
        self._workspace: Workspace
        self._journal = ""
        """The name of the open records."""
        self._records: ImageRecords

    @classmethod
    def for_run(
        cls,
        model: nn.Module,
        *,
        source: str | None,
        settings: dict[str, Any],
        recipe: Mapping[str, str],
        weights: str | None = None,
        trace: TraceInfo | None = None,
        graph: Mapping[str, Any] | None = None,
        plan: Mapping[str, Any] | None = None,
        shard: Shard | None = None,
    ) -> Manifest:
        """Return the manifest of a run. `source` and `weights` say where the model and its weights come from.

        `trace` says how the model was traced, and `graph` is its `graph_entry`. `plan` says what a run must have in
        common with this one to go on with it; None for a run that can't go on. `shard`
        is the part of the run that it does; None for all of it.
        """
        head = run_entry(model, source, weights, settings, recipe)
        head |= trace_entries(trace) if trace is not None else {}
        more = {"graph": graph, PLAN: plan, SHARD: None if shard is None else shard.entry()}
        return cls(head | {name: value for name, value in more.items() if value is not None})

    @contextmanager
    def recording(self, workspace: Workspace, operations: Iterable[Operation]) -> Iterator[None]:
        """Within the block, the workspace may have records. `operations` are the selected ones.

        If the folder has no manifest of a run that goes on, one is written that says that the run is not finished.
        Raises OutputError if the folder can't be written.
        """
        self._workspace = workspace
        self._operations = tuple(operations)
        entries = [operation_entry(operation) for operation in self._operations]
        if has_manifest(workspace.folder):
            head = ManifestReader(workspace.folder).head
            self._run_files, self._earlier_failures = listed_checksums(head), head["failed"]
            self.is_complete = head["interrupted"] is False
        else:
            content = {**self.head, "operations": entries, "failed": [], "interrupted": True, "error": UNFINISHED}
            write_manifest(workspace, content, Tally(), {})
        try:
            yield
        finally:
            self.close()

    @classmethod
    def for_worker(cls, head: dict[str, Any], workspace: Workspace) -> Manifest:
        """Return the manifest of a worker, which writes records to a journal of its own in the workspace.

        `write` includes those records. The rest comes back by `take_run_files` and `add_run_files`.
        """
        worker = cls(head)
        worker._workspace = workspace
        return worker

    def record_in(self, journal: str) -> None:
        """Write records to this journal from now on. Raises OutputError if it can't be made."""
        if journal != self._journal:
            self.close()
            self._records = ImageRecords(self._workspace.path, journal)
            self._journal = journal

    def close(self) -> None:
        """Close the journal, to which nothing more will be written."""
        if self._journal:
            self._records.close()
            self._journal = ""

    def take_run_files(self) -> dict[str, str | None]:
        """Return the files that belong to no single image, with their checksums, which are new since the last call."""
        files, self._run_files = self._run_files, {}
        return files

    def add_run_files(self, files: Mapping[str, str | None]) -> None:
        """Add files of a worker that belong to no single image."""
        self._run_files |= files

    def record_check(self, *, without_edits: bool) -> None:
        """Record that the output of the current batch is that of the original model, or was so without edits."""
        without = "without the edits, " if without_edits else ""
        self._batch.check = f"{without}the output of the first batch is the original model's, bit for bit"

    def start_image(self, image: str) -> None:
        """Let files in the folder of an image belong to it, even if none is of a single activation."""
        self._entry(image)

    def add_activation(self, activation: Activation, written: Iterable[WrittenFile]) -> None:
        """Record an activation and the files that were written of it."""
        self._entry(activation.image)["activations"].append(activation_entry(activation, written))

    def add_files(self, written: Iterable[WrittenFile]) -> None:
        """Record files of several activations, such as a sheet; each belongs to the image whose folder it is in."""
        for file in written:
            if file.is_common:
                self._batch.common_files[file.name] = file.crc32 or ""
                continue
            image = file.name.partition("/")[0]
            entry = self._entry(image if image in self._open else None)
            entry["files"].append(file.name)
            if file.crc32 is not None:
                entry["crc32"][file.name] = file.crc32

    def set_run_files(self, written: Iterable[WrittenFile]) -> None:
        """Record the files that were written when the sinks were closed. They belong to no image."""
        self._run_files |= {file.name: file.crc32 for file in written if not file.is_common}

    def finish_image(
        self, image: str, source: object, size: tuple[int, ...], number: int, not_reached: Sequence[str] = ()
    ) -> None:
        """Complete the entry of an image, and that of its batch. `commit` writes them.

        `size` is the height and width of its input, `number` its place among the images of the run. `not_reached` are
        the paths of the selected operations that it did not reach.
        """
        for name in (image, None):
            if (entry := self._open.pop(name, None)) is not None:
                files = len(entry["files"]) + sum(len(activation["files"]) for activation in entry["activations"])
                about: dict[str, Any] = {"number": number}
                if name is not None:
                    about |= {"name": image, "source": str(source), "size": list(size)}
                    about |= {"not_reached": not_reached} if not_reached else {}
                if not entry["crc32"]:
                    del entry["crc32"]
                self._records.add(ImageRecord(number, files, as_json({**about, **entry})))
                self._batch.files += files
                if self._workspace.uploads is not None:
                    self._batch_files += listed_files(entry)
                    self._batch_images += [name] if name is not None else []
        self._batch.finished.add(number)
        self._batch.not_reached.update(not_reached)

    def commit(self, tally: Tally | None = None, gathered: Sequence[tuple[str, Gathered]] = ()) -> None:
        """Record a batch whose images are all finished, with what else the batch adds to the tally.

        For an address, that is done when its files are there, some time after this returns. `gathered` is what sinks
        have gathered of the batch. If there is any, the record is written when that is saved, at the latest by `drain`.
        Raises OutputError if the disk is full, or if a batch can't be taken to the address.
        """
        batch, self._batch = self._batch, Tally()
        batch.merge(tally or Tally())
        number, record = min(batch.finished), self._records.take_batch(batch.whole_record())
        finish = partial(self._finish_batch, number, record, gathered)
        if (uploads := self._workspace.uploads) is None:
            finish()
        else:
            places = [f"{BATCH_FOLDER}/{sortable_number(number, 4)}", *map(sanitize_path_part, self._batch_images)]
            uploads.submit(BatchUpload(number, self._batch_files, sorted(batch.common_files), places, finish))
            self._batch_files, self._batch_images = [], []

    def drain(self) -> None:
        """Wait until all batches are recorded. Raises OutputError if one can't be taken to the address of the run."""
        if self._workspace.uploads is not None:
            self._workspace.uploads.drain(self._write_records)
        else:
            self._write_records()

    def _finish_batch(self, number: int, record: RecordedBatch, gathered: Sequence[tuple[str, Gathered]]) -> Recorded:
        self._sums.add(gathered)
        self._unwritten.append((number, record))
        return self._write_records() if not self._sums or self._sums.is_due() else Recorded()

    def _write_records(self) -> Recorded:
        """Write the records of the batches that wait for it, after what is gathered of them, and return them."""
        batches, self._unwritten = self._unwritten, []
        if not batches:
            return Recorded()
        states = self._sums.save(self._workspace) if self._sums else None
        content = self._records.commit(*(record for _, record in batches), states=states)
        for number, _ in batches:
            self._workspace.finish_batch(number)
        return Recorded(content, () if states is None else self._sums.forget_earlier(self._workspace))

    def drop_image(self, image: str | None) -> None:
        """Forget an image that failed."""
        self._open.pop(image, None)

    def write(
        self,
        failed: Iterable[Failure],
        *,
        interrupted: bool,
        error: BaseException | None = None,
        notes: Notes | None = None,
        loaders: Mapping[str, Loader] | None = None,
    ) -> Tally:
        """Write `manifest.json`. Return what the images add up to, with the number of all files, itself included.

        `notes` are those that belong to no finished image, `loaders` read what sinks have gathered, by the name of the
        file that they write. Raises OutputError if it can't be written.
        """
        tally = read_tally(self._workspace, self._operations)
        merged = MergedFiles(self._workspace, tally, loaders or {}, is_part=interrupted or SHARD in self.head)
        run_files = self._run_files | tally.common_files | merged.files
        run_files = {name: crc32 for name, crc32 in run_files.items() if name not in merged.replaced}
        files = tally.files + len(run_files) + 1
        tally.machine_stopped &= interrupted
        entries = [summary_entry(summary) for summary in tally.ordered_summaries()]
        known = [*self._earlier_failures, *map(asdict, failed)]
        failures = {failure["number"]: failure for failure in known}
        content = {**self.head, **({"check": tally.check} if tally.check else {})}
        all_notes = dict(notes or {})
        if SHARD in content:  # in parts that can be added up
            content[SHARD] = {**content[SHARD], "notes": dict(sorted(all_notes.items()))}
        merge_notes(all_notes, tally.notes)
        if all_notes:
            content["notes"] = format_notes(all_notes)
        content |= {
            "operations": entries or [operation_entry(operation) for operation in self._operations],
            "failed": [failures[number] for number in sorted(failures) if number not in tally.finished],
            "interrupted": interrupted,
        }
        if error is not None:
            content["error"] = first_line(error)
        write_manifest(self._workspace, content, tally, run_files)
        self._workspace.is_recorded = True
        merged.move()
        return replace(tally, files=files)

    def tally(self) -> Tally:
        """Return what the images add up to that an earlier run has finished, with the number of all files."""
        tally = read_tally(self._workspace, self._operations)
        return replace(tally, files=tally.files + len(self._run_files) + 1)

    def _entry(self, image: str | None) -> dict[str, Any]:
        return self._open.setdefault(image, {"files": [], "crc32": {}, "activations": []})
