"""`certify`: a rewritten model and the original in every mode and case, compared bit for bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from surgery.eager import bind_example, insert_everywhere, lock_global_state, remember_namespaces
from surgery.editing import edits_of
from surgery.errors import SurgeryError
from surgery.graph import copy_isolating_hooks, operations, set_mode, trace_info
from surgery.rewriting import find_edits, find_extractors, remove_edits
from surgery.tracing import is_traced, unwrap_model
from surgery.verification.certificate import Certificate, Comparison
from surgery.verification.edit_certification import compare_edits
from surgery.verification.input_cases import input_cases
from surgery.verification.model_state import compare_parameters, compare_state, model_state
from surgery.verification.run_comparison import TRAINING_FLAGS, Case, RewrittenModel, compare_case

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

    from surgery.eager import ExampleInputs


def certify(
    model: nn.Module,
    opened: nn.Module,
    *inputs: Any,
    modes: Sequence[str] | None = None,
    others: bool = True,
) -> Certificate:
    """Compare a rewritten or traced model `opened` with the original `model`, bit for bit.

    `inputs` are what `model` takes by position. A dict as the only input holds its keyword arguments, as the example of
    `surgery.trace` does. Each mode is run on the inputs. With `others`, it is also run a second time, on a batch twice
    as large, and on images twice as wide, if the original takes them.

    Each run compares the output, the value of every operation, the state of the random generators, the buffers, the
    mode of each module and the calls of hooks. The reference for the values is a run of the original that clones each
    value as it is produced; the leaves of an observed model are also compared with what forward hooks see. On the
    inputs themselves, the gradients of the outputs are compared too. At the end, parameters must be shared or equal,
    and the original must be unchanged.

    Each run begins with the same buffers, random numbers, and numbers and texts in global names. What the original
    computes anew in each run all the same is not compared, and the certificate says so.

    An edited model is compared without its edits. With them, every value upstream of the edits must be that of the
    model, of an edited value the elements that the edit does not choose must be those before the edit, and the model
    must give the same output when it has been saved, compiled and exported.

    `modes` are by default ``eval`` and ``train``. ``as-is`` is added if the modules of the model are in different modes
    and the rewritten model is not in a mode of its own. A mode that the rewritten model refuses is not compared: the
    certificate has the reason. Both models are left as they were.
    """
    tracing = trace_info(opened)  # raises an error for a model that was not traced
    model = unwrap_model(model)
    if is_traced(model):
        model = remove_edits(model)
    example = inputs[0] if len(inputs) == 1 and isinstance(inputs[0], Mapping) else inputs
    has_edits = bool(find_edits(opened))
    with lock_global_state(), remember_namespaces(), torch.inference_mode(False):
        bound = bind_example(model, example)
        comparisons = _compare(model, remove_edits(opened) if has_edits else opened, bound, modes, others=others)
        if has_edits:
            comparisons += compare_edits(opened, bound, tuple(modes or ("eval", "train")))
    return Certificate(
        model=type(model).__name__,
        operations=len(operations(opened)),
        extracted=len({extractor.operation.path for extractor in find_extractors(opened)}),
        comparisons=tuple(comparisons),
        tracing=tracing,
        edits=tuple(edits_of(opened)),
    )


def _compare(
    model: nn.Module, opened: nn.Module, inputs: ExampleInputs, modes: Sequence[str] | None, *, others: bool
) -> list[Comparison]:
    state = model_state(model)
    comparisons: list[Comparison] = []
    for mode in modes or ("eval", "train", *(["as-is"] if _is_in_mixed_modes(opened) else [])):
        try:
            rewritten = _rewritten_in_mode(opened, TRAINING_FLAGS[mode])
        except SurgeryError as error:  # there is no graph for this mode
            comparisons.append(Comparison("output", mode, "example", None, 0, str(error)))
            continue
        for name, case_inputs in input_cases(inputs) if others else [("example", inputs)]:
            comparisons += compare_case(model, rewritten, Case(mode, name, case_inputs))
    comparisons += [compare_parameters(model, opened), compare_state(model, state)]
    return comparisons


def _is_in_mixed_modes(opened: nn.Module) -> bool:
    """Return whether setting the mode that a model is in would change the mode of one of its modules."""
    try:
        in_mode = set_mode(copy_isolating_hooks(opened), opened.training)
    except SurgeryError:  # there is no graph for this mode
        return True
    modes = [[(path, module.training) for path, module in each.named_modules()] for each in (opened, in_mode)]
    return modes[0] != modes[1]


def _rewritten_in_mode(opened: nn.Module, training: bool | None) -> RewrittenModel:
    """Return copies of the rewritten model in a mode. Raises SurgeryError if it has no graph for the mode."""
    return RewrittenModel(
        opened=set_mode(copy_isolating_hooks(opened), training),
        everywhere=insert_everywhere(opened, training=training),
    )
