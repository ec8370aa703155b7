"""`edit`: a copy of a traced model in which the values of chosen operations are changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from surgery.editing.map_change import MapChange, view_for
from surgery.errors import EditError, ImageError, SurgeryError, first_line
from surgery.graph import clone_inputs, named_tensors
from surgery.layouts import MapView, find_map_views
from surgery.plugins import Plugins, describe_error, format_stage
from surgery.rewriting import Selection, insert, insert_edits, listening, select, stop_after_last_extractor
from surgery.text import abbreviate_list, describe_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from surgery.layouts import RequestedLayouts
    from surgery.stages import Edit
    from surgery.types import Operation

T = TypeVar("T", bound=nn.Module)


def edit(
    traced: T,
    selection: Selection | str | Sequence[Operation],
    change: Edit | str,
    *,
    layout: RequestedLayouts = None,
    reference: Any = None,
    seed: int = 0,
    plugins: Plugins | None = None,
) -> T:
    """Return a copy of `traced` in which the values of the selected operations are changed, for all who read them.

    - `traced`: What `surgery.trace` or `surgery.insert` returned, or an edited model. It stays as it is; the copy
      shares its parameters.
    - `selection`: Which operations, as `surgery.select` takes it, or the operations themselves.
    - `change`: A function of maps ``(B, C, H, W)``, such as `surgery.builtin.Zero(channels=range(16))`, or the
      text of an edit that plugins offer: ``"zero:channels=0-15"``. Its attributes `channels`, `region` and `amount`
      say which elements are replaced. All others keep their bits.
    - `layout`: How values are read as maps, as in `surgery.extract`. By default the axes of each value are tracked.
    - `reference`: Inputs of a reference run, for an edit that computes its replacement from one: a tensor, a tuple of
      positional inputs, a dict of inputs by name, or a list of these, one for each batch.
    - `seed`: Seeds torch's random generators before each batch of the reference run.
    - `plugins`: Where names are looked up; by default the plugins that the command line finds.

    In the copy, the value before the edit has the path of its operation, and the edited value has a prime:
    ``up3.cat'``. Both can be selected and extracted. A second edit of an operation comes after the first. Of a value
    with several tensors, each is changed.

    Raises SelectionError if the selection matches nothing, and EditError for an edit that does not fit a value, if
    nothing reads the values, or if an edited value can't be kept apart from others that share its memory. The message
    has the line of the code that writes there. When the model runs, an edit that returns another shape, dtype or
    device, or that writes to its input, raises EditError too.
    """
    resolved = resolve_edit(change, plugins)
    chosen = select(traced, selection) if isinstance(selection, (str, Selection)) else selection
    views = find_map_views(traced, chosen, layout)
    text = edit_text(change, plugins)
    fitted = fit_to_reference(traced, chosen, resolved, views, reference, seed)
    return insert_edits(traced, chosen, _ChangeMaker(resolved, text, views, fitted))


@dataclass(frozen=True, eq=False)
class _ChangeMaker:
    """Makes the changes of operations; an observed model keeps it for those that only other runs have."""

    edit: Edit
    text: str
    views: Mapping[str, MapView]
    fitted: Mapping[str, Edit]
    """The edits that were made from a reference run, by the paths of operations."""

    def __call__(self, operation: Operation) -> MapChange:
        view = self.views.get(operation.path, MapView())
        return MapChange(self.fitted.get(operation.path, self.edit), view, operation.path, self.text)


def resolve_edit(change: Edit | str, plugins: Plugins | None = None) -> Edit:
    """Return an edit for a value or a text. Raises PluginError for an unknown name, EditError for what is no edit."""
    if isinstance(change, str):
        resolved: Edit = (plugins or Plugins()).resolve("edit", change)
        return resolved
    if not callable(change) or isinstance(change, type):
        raise EditError(f"an edit is a name, such as 'zero:channels=0-15', or a function of maps, not {change!r:.60}")
    return change


def edit_text(change: Edit | str, plugins: Plugins | None = None) -> str:
    """Return the text of an edit, ``zero:channels=0-15``; for one that no text gives, what it is."""
    if isinstance(change, str):
        return change
    return format_stage("edit", change, plugins or Plugins(bare=True)) or describe_stage(change)


def fit_to_reference(
    traced: nn.Module,
    chosen: Sequence[Operation],
    change: Edit,
    views: Mapping[str, MapView],
    reference: Any,
    seed: int,
) -> dict[str, Edit]:
    """Return the edit of each operation, by its path, as the values of a reference run make it.

    The arguments are those of `edit`; `views` show the maps of the values. The result is empty for an edit that takes
    nothing from a reference run. Raises EditError if it needs one, or if a reference is given in vain, and ImageError
    for one that the model does not take.
    """
    of_reference = getattr(change, "of_reference", None)
    if reference is None or of_reference is None:
        if getattr(change, "needs_reference", False):
            advice = "give its inputs, --reference FILES (reference= in Python)"
            raise EditError(f"{edit_text(change)} needs a reference run; {advice}")
        if reference is not None:
            raise EditError(f"{edit_text(change)} takes nothing from a reference run; leave reference out")
        return {}
    values: dict[str, list[Tensor]] = {}

    def keep(operation: Operation, value: Any) -> None:
        if not isinstance(value, Tensor):
            raise EditError(f"{operation.path} has {len(list(named_tensors(value)))} tensors; a reference needs one")
        view = view_for(change, views.get(operation.path, MapView()))
        values.setdefault(operation.path, []).append(view(value.detach().clone()))

    opened = stop_after_last_extractor(insert(traced, chosen))
    batches = reference if isinstance(reference, list) else [reference]
    with torch.no_grad(), torch.random.fork_rng(), listening(opened, keep):
        for batch in batches:
            torch.manual_seed(seed)
            copied = clone_inputs(batch)
            args = copied if isinstance(copied, tuple) else () if isinstance(copied, dict) else (copied,)
            try:
                opened(*args, **(copied if isinstance(copied, dict) else {}))
            except SurgeryError:
                raise
            except Exception as error:
                shapes = ", ".join(str(tuple(tensor.shape)) for _, tensor in named_tensors(batch))
                raise ImageError(f"the model does not take the reference {shapes}: {first_line(error)}") from error
    missing = [operation.path for operation in chosen if operation.path not in values]
    if missing:
        raise EditError(f"the reference run does not reach {missing[0]}")
    return {path: _fit(of_reference, path, parts, edit_text(change)) for path, parts in values.items()}


def _fit(of_reference: Callable[[Tensor], Edit], path: str, parts: Sequence[Tensor], text: str) -> Edit:
    """Return the edit of one operation for the values of a reference run, a part for each batch."""
    shapes = list(dict.fromkeys(tuple(part.shape[1:]) for part in parts))
    if len(shapes) > 1:
        raise EditError(f"{path} has maps of several sizes in the reference run: {abbreviate_list(shapes)}; give one")
    try:
        return of_reference(torch.cat(list(parts)))
    except SurgeryError as error:
        raise EditError(f"{path} can't be edited: {error}") from error
    except Exception as error:
        raise EditError(f"{text} can't be made from the reference run of {path}: {describe_error(error)}") from error
