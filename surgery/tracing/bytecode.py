"""Finds `is` comparisons of a value in the bytecode of the user's code.

``y is x`` compares two objects without calling a method of either. So a proxy can't answer, and can't even notice the
comparison. The bytecode of the frame that holds the proxy shows it.
"""

from __future__ import annotations

import dis
import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType, FrameType

_PUSHING = {"LOAD_GLOBAL", "LOAD_FAST", "LOAD_CONST", "LOAD_NAME", "LOAD_DEREF", "LOAD_FAST_BORROW", "LOAD_SMALL_INT"}
"""Instructions that push one more value on the stack."""
_WITHOUT_EFFECT = {"PRECALL", "CACHE", "NOP", "RESUME", "NOT_TAKEN", "EXTENDED_ARG"}
_JUMPS_ON_NONE = {f"POP_JUMP_{way}IF_{word}" for way in ("", "FORWARD_", "BACKWARD_") for word in ("NONE", "NOT_NONE")}
_MAY_BE_NONE = {"grad", "grad_fn", "names"}
"""Attributes of tensors that may be None."""


def current_opcode(frame: FrameType) -> str:
    """Return the name of the instruction that a frame executes, such as ``LOAD_ATTR``."""
    return dis.opname[frame.f_code.co_code[frame.f_lasti]]


@functools.lru_cache(maxsize=4096)
def is_compared_by_identity(code: CodeType, offset: int) -> bool:
    """Return whether `is` compares the attribute that the instruction at an offset loads.

    The comparison may follow at once, or use the local variable to which the value is assigned. A comparison with None
    counts only for attributes that may be None.
    """
    instructions = [
        instruction for instruction in dis.get_instructions(code) if instruction.opname not in _WITHOUT_EFFECT
    ]
    index = next(n for n, instruction in enumerate(instructions) if instruction.offset >= offset)
    name = str(instructions[index].argval)
    use, end = _find_use(instructions, index)
    uses = [use]
    if use == "STORE_FAST":
        variable = instructions[end].argval
        loads = [n for n, i in enumerate(instructions) if i.opname.startswith("LOAD_FAST") and i.argval == variable]
        uses = [_find_use(instructions, n)[0] for n in loads]
    return "IS_OP" in uses or (name in _MAY_BE_NONE and "IS NONE" in uses)


def _find_use(instructions: list[dis.Instruction], index: int) -> tuple[str, int]:
    """Return which instruction consumes the value that another one loads, and its index.

    The result is ``"IS_OP"``, ``"IS NONE"`` or ``"STORE_FAST"``, and empty for any other use. Only straight-line code
    is followed.
    """
    values_above = 0
    previous = instructions[index - 1] if index > 0 else None
    is_none = previous is not None and previous.argval is None and previous.opname == "LOAD_CONST"
    for number in range(index + 1, len(instructions)):
        instruction = instructions[number]
        if instruction.opname in _PUSHING:
            values_above += 1
            is_none = instruction.opname == "LOAD_CONST" and instruction.argval is None
        elif instruction.opname == "LOAD_ATTR" and values_above:
            is_none = False
        elif instruction.opname == "IS_OP" and values_above <= 1:
            return "IS NONE" if is_none else "IS_OP", number
        elif instruction.opname in _JUMPS_ON_NONE and not values_above:
            return "IS NONE", number
        elif instruction.opname == "STORE_FAST" and not values_above:
            return "STORE_FAST", number
        else:
            break
    return "", index
