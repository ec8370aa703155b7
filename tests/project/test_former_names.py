"""Names that were changed work for one release, with a warning that says the new one."""

from __future__ import annotations

import numpy as np
import pytest

from surgery import stages, types
from surgery.stages import TileLayout


def test_a_tile_layout_is_made_under_its_former_name_and_argument() -> None:
    with pytest.warns(DeprecationWarning, match="surgery.stages.Layout is now called TileLayout"):
        make = stages.Layout  # type: ignore[attr-defined]
    assert make(4, 2, 2, gap=1) == make(shown=4, tiles=2, columns=2, gap=1) == TileLayout(4, 2, 2, gap=1)
    with pytest.warns(DeprecationWarning, match="TileLayout"), pytest.warns(DeprecationWarning, match="has moved"):
        assert types.Layout is make  # type: ignore[attr-defined]


def test_the_stages_are_found_in_the_module_they_moved_from() -> None:
    with pytest.warns(DeprecationWarning, match="surgery.types.Recipe has moved to surgery.stages.Recipe"):
        assert types.Recipe is stages.Recipe


def test_codes_are_read_under_their_former_name() -> None:
    levels = types.Levels(np.zeros((1, 2, 2), np.uint8), np.zeros(1), np.ones(1))
    with pytest.warns(DeprecationWarning, match="indices is now called codes"):
        assert levels.indices is levels.codes


@pytest.mark.parametrize("module", [stages, types])
def test_a_name_that_never_was_is_an_error(module: object) -> None:
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        module.Nothing  # type: ignore[attr-defined] # noqa: B018
