"""Modes that see the calls of torch's operators."""

from __future__ import annotations

import sys
from functools import wraps
from typing import Any

from torch._compile import _disable_dynamo
from torch.utils._python_dispatch import TorchDispatchMode


class DispatchMode(TorchDispatchMode):
    """A `TorchDispatchMode` whose `__torch_dispatch__` is never compiled, and that doesn't import torch's compiler.

    torch's own modes import it when they are first called, which takes a second. As long as nobody else has imported
    it, nothing compiles.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)  # type: ignore[no-untyped-call]
        if (called := vars(cls).get("__torch_dispatch__")) is None:
            return
        not_compiled = _disable_dynamo(called)

        @wraps(called)
        def dispatch(*args: Any, **kwargs: Any) -> Any:
            return (not_compiled if "torch._dynamo" in sys.modules else called)(*args, **kwargs)

        cls.__torch_dispatch__ = dispatch  # type: ignore[method-assign]

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Whether torch prevents that it is compiled."""
        return False
