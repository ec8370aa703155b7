"""The preparation of a study: the model is traced, and what is to be edited is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from surgery.editing import edit_text, fit_to_reference, resolve_edit
from surgery.errors import EditError, SelectionError
from surgery.extraction import StageResolver, check_settings, copy_for_run, edit_for_run, trace_for_run
from surgery.graph import trace_info
from surgery.layouts import find_map_views
from surgery.models import get_provenance
from surgery.output import format_notes
from surgery.rewriting import select_all
from surgery.studies.memory_limits import parse_memory
from surgery.studies.study_inputs import ReadingArguments, StudyInputs, read_reference
from surgery.studies.unit_runs import UnitRuns
from surgery.studies.variant_runs import VariantRunner
from surgery.studies.variants import check_channels, group_units, make_units
from surgery.tracing import unwrap_model

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from surgery.editing import EditRecipe
    from surgery.extraction import Mode
    from surgery.graph import FrontEnd
    from surgery.inputs import FilePatterns, Side, Size
    from surgery.layouts import MapView, RequestedLayouts
    from surgery.plugins import Plugins
    from surgery.rewriting import Selection
    from surgery.stages import Edit, Reader
    from surgery.studies.variants import Unit, UnitGroup
    from surgery.types import Operation


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArguments:
    """How a study reads images and runs the model: the arguments of `surgery.ablate` of these names."""

    inputs: Mapping[str, Any]
    reader: Reader | str | None
    readers: Mapping[str, Reader | str]
    size: Size
    side: Side
    range: tuple[float, float] | None
    batch: int
    memory: int | str
    device: str | torch.device
    mode: Mode
    seed: int
    leaves: Sequence[str | type[nn.Module]]
    allow: Sequence[str]
    front_end: FrontEnd | str
    layout: RequestedLayouts
    source: str | None
    plugins: Plugins | None

    def reading(self) -> ReadingArguments:
        """Return how inputs are read. Raises PluginError for a reader that no plugin offers."""
        stages = StageResolver(self.plugins)
        reader = None if self.reader is None else stages.resolve("reader", self.reader)
        readers = {name: stages.resolve("reader", each) for name, each in self.readers.items()}
        return ReadingArguments(self.inputs, reader, readers, self.size, self.side, self.range)


class StudySetup:
    """A traced model, the images of a study, and the operations that are edited."""

    def __init__(
        self,
        model: nn.Module,
        images: FilePatterns | Tensor,
        at: Selection | str | Sequence[Selection | str],
        arguments: RunArguments,
        *,
        edits: EditRecipe = (),
        reference: FilePatterns = (),
    ) -> None:
        """`edits` change the model before it is studied, those that need it from a run on the images in `reference`.

        Raises what `surgery.extract` raises for its arguments of these names.
        """
        self.arguments = arguments
        self._memory = parse_memory(arguments.memory)
        check_settings(arguments.mode, arguments.batch, arguments.side, arguments.device, arguments.seed)
        self._reading = arguments.reading()
        self.original = unwrap_model(model)
        self.subject = copy_for_run(self.original, arguments.mode, arguments.device)
        self.inputs = StudyInputs.find(self.original, self.subject, images, self._reading, arguments.device)
        tracing = {name: getattr(arguments, name) for name in ("leaves", "allow", "front_end")}
        self.traced = trace_for_run(self.subject, tracing, self.inputs.example())
        if edits:
            files = self._reading.find(self.original, reference) if reference else None
            where: dict[str, Any] = {name: getattr(arguments, name) for name in ("device", "seed", "plugins")}
            self.traced = edit_for_run(self.traced, edits, arguments.layout, files, self.subject, **where)
        selections: Sequence[Selection | str] = at if isinstance(at, (list, tuple)) else [at]  # type: ignore[list-item]
        self.selection = ", ".join(map(str, selections))
        """The selections as text."""
        selected = select_all(self.traced, selections)
        self.chosen: list[Operation] = [operation for operation in selected if operation.tensors != ()]
        """The selected operations that compute tensors."""
        if not self.chosen:
            raise SelectionError(f"{selected[0].path} computes no tensor, so there is nothing to edit")
        self.views: Mapping[str, MapView] = find_map_views(self.traced, self.chosen, arguments.layout)
        self.runner = VariantRunner(self.traced, torch.device(arguments.device), arguments.seed)
        self.notes: list[str] = []

    def group_units(
        self, change: Edit | str, each: str, reference: FilePatterns | Tensor
    ) -> tuple[list[Unit], list[UnitGroup], str]:
        """Return the units of a study in order of execution, their groups, and the text of the edit.

        Units that can't be edited are left out, with a note. Raises EditError if none can be.
        """
        plugins = self.arguments.plugins
        edit, text = resolve_edit(change, plugins), edit_text(change, plugins)
        check_channels(edit, each, plugins)
        units = make_units(self.traced, self.chosen, each, self.views)
        if not units:
            raise EditError(f"{self.chosen[0].path} has no channels to edit")
        edited = list({operation.path: operation for unit in units for operation in unit.operations}.values())
        views = {**find_map_views(self.traced, edited, self.arguments.layout), **self.views}
        batches: list[dict[str, Any]] | None = None
        if isinstance(reference, torch.Tensor) or reference:
            batches = read_reference(self.inputs, self._reading, reference)
            edited = self._leave_out_structures(edited)
            units = [unit for unit in units if set(unit.operations) <= set(edited)]
        fitted = fit_to_reference(self.traced, edited, edit, views, batches, self.arguments.seed)
        edits = {operation.path: fitted.get(operation.path, edit) for operation in edited}
        groups, reasons = group_units(self.traced, units, edits, views, text)
        self.notes += reasons
        kept = {unit for group in groups for unit in group.units}
        return [unit for unit in units if unit in kept], groups, text

    def _leave_out_structures(self, edited: Sequence[Operation]) -> list[Operation]:
        """Return the operations whose values are single tensors, as those of a reference run have to be."""
        single = [operation for operation in edited if operation.shape is not None]
        if not single:
            raise EditError(f"the value of {edited[0].path} is not a single tensor; a reference run needs one")
        others = [operation for operation in edited if operation not in single]
        self.notes += [f"left out: the value of {operation.path} is not a single tensor" for operation in others]
        return single

    def unit_runs(self, groups: Sequence[UnitGroup]) -> UnitRuns:
        """Return the runs of groups of units."""
        return UnitRuns(self.runner, groups, self.arguments.batch, self._memory)

    def notes_on_model(self) -> list[str]:
        """Return what there is to know about the weights and the trace of the model, a line each."""
        name = self.arguments.source or type(self.original).__name__
        info = trace_info(self.traced)
        weights = get_provenance(self.original).notes(self.original, name)
        return [*weights, *filter(None, [info.note]), *map(str, info.hazards)]

    def all_notes(self, runs: UnitRuns) -> tuple[str, ...]:
        """Return what there is to know about the results of edits, a line each."""
        notes = [*self.notes_on_model(), *self.notes, *format_notes(self.inputs.notes), *runs.notes]
        if self.runner.draws_random_numbers:
            notes.append(f"the model draws random numbers: each variant uses the same seed, {self.arguments.seed}")
        return tuple(dict.fromkeys(notes))
