"""What is known about an observed model."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from surgery.graph import LeafRule, is_leaf_by_default, matches_leaf

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from surgery.graph import Edges, Leaves, Operations
    from surgery.rewriting import ActivationEdit, ActivationExtractor, ChangeMaker, NewOperationExtractor
    from surgery.types import Operation


@dataclass(frozen=True, slots=True)
class NewOperationEdits:
    """The edit of those operations of a run that a selection matches, and that the run of the example did not have."""

    matches: Callable[[Operation], bool]
    make_change: ChangeMaker


@dataclass(slots=True)
class Observation:
    """What is known about an observed model, and the extractors that it calls."""

    operations: Operations
    """The operations of the run of the example."""
    edges: Edges
    inputs: tuple[str, ...]
    """The names of the inputs that the example has."""
    keyword_inputs: frozenset[str]
    """The names of those that the model receives as keyword arguments."""
    leaves: Leaves = ()
    extractors: dict[str, ActivationExtractor] = field(default_factory=dict)
    """Path of an operation -> its extractor."""
    edits: dict[str, tuple[ActivationEdit, ...]] = field(default_factory=dict)
    """Path of an operation of the model -> its edits, in their order."""
    new_edits: tuple[NewOperationEdits, ...] = ()
    """The edits of operations that the run of the example did not have."""
    new_operations: NewOperationExtractor | None = None
    """What receives the values of operations that the run of the example did not have; None if nothing does."""
    stops_early: bool = False
    """Whether a run stops when every extractor has received a value."""

    @property
    def known_paths(self) -> frozenset[str]:
        """The paths of the operations of the run of the example."""
        return frozenset(operation.path for operation in self.operations)

    @property
    def first_new_index(self) -> int:
        """The index of the first new operation of a run. The output has the one before."""
        return max((operation.index for operation in self.operations), default=0) + 2

    def __deepcopy__(self, memo: dict[int, Any]) -> Observation:
        """Return a copy with extractors of its own. All else is never changed."""
        return replace(
            self,
            extractors={path: copy.deepcopy(each, memo) for path, each in self.extractors.items()},
            edits={path: copy.deepcopy(each, memo) for path, each in self.edits.items()},
            new_operations=copy.copy(self.new_operations),
        )


def leaf_rule_for(leaves: Leaves) -> LeafRule:
    """Return which modules are one operation each: those of torch, and `leaves`."""

    def is_leaf(module: nn.Module, path: str) -> bool:
        return is_leaf_by_default(module, path) or any(matches_leaf(leaf, module, path) for leaf in leaves)

    return LeafRule(is_leaf)
