"""Observed calls as operations."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

from surgery.graph import find_user_line, format_location, tensor_specs
from surgery.types import Operation

if TYPE_CHECKING:
    from surgery.eager import ObservedCall, OperationObserver


def make_operation(observer: OperationObserver, call: ObservedCall, path: str, index: int = 0) -> Operation:
    """Return the operation of a call. `path` has the number of the call; the observer is within its `on_call`."""
    scopes = tuple(scope for scope in observer.scopes if scope)
    return Operation(
        name=identifier(path),
        path=path,
        kind=call.kind,
        index=index,
        scopes=(*scopes, call.path) if call.is_module else scopes,
        source=format_location(find_user_line(sys._getframe(2))),  # noqa: SLF001
        tensors=tensor_specs(call.value),
    )


def identifier(path: str) -> str:
    """Return a path as an identifier: ``up2_cat_1`` for ``up2.cat@1``."""
    name = re.sub(r"\W", "_", path)
    return f"_{name}" if name[:1].isdigit() else name
