"""The user's code that a trace finds among the imported modules."""

from __future__ import annotations

import sys
from functools import lru_cache
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from surgery.eager import isolate_caches, remember_namespaces


@pytest.mark.parametrize("file", ["/home/me/tables.py", "/venv/lib/python3/site-packages/tables.py"])
def test_cached_functions_have_caches_of_their_own_in_every_block(file: str, monkeypatch: pytest.MonkeyPatch) -> None:
    @lru_cache
    def table(size: int) -> Tensor:
        return torch.arange(size)

    module: Any = ModuleType("tables")
    module.__file__, module.torch, module.table = file, torch, table
    monkeypatch.setitem(sys.modules, "tables", module)
    before = table(3)
    model = nn.ReLU()
    with remember_namespaces():
        for size in (4, 5):
            with isolate_caches(model):
                assert module.table(size) is module.table(size)
                assert module.table(3) is not before
                with isolate_caches(model):  # as a model that is traced within a run
                    module.table(6)
            assert module.table is table
    assert table.cache_info().currsize == 1
    assert table(3) is before
