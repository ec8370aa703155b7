"""Whether the user's code branches on a text that it builds from a proxy: ``"16" in str(x.shape)``.

The text of a proxy is ``Proxy(getattr_1)``, whatever the value is, and a comparison of texts calls no method of the
proxy. The bytecode of the calling frame shows what becomes of the text. Messages of errors, assertions and logs
contain such texts too, and are harmless.
"""

from __future__ import annotations

import dis
from functools import lru_cache
from typing import TYPE_CHECKING

from surgery.graph import is_user_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

_CALLING = {"CALL", "CALL_KW", "CALL_FUNCTION_EX"}
_GIVING = {"RETURN_VALUE", "YIELD_VALUE", "LIST_APPEND", "SET_ADD"}
"""Instructions that pass a text on to the calling frame, in a function or a comprehension."""
_BETWEEN = {"PRECALL", "CACHE", "NOP", "COPY", "LOAD_FAST", "LOAD_GLOBAL", "LOAD_DEREF", "RESUME"}
"""Instructions that may stand between a text and the instruction that stores it."""
_LOOKING_UP = {"get", "pop"}
"""Names of methods of tables that look for a key."""
_DECIDING = {"getattr", "hasattr", "len", "int", "float", "hash", "ord", "eval", "bool"}
_DECIDING |= {"startswith", "endswith", "find", "rfind", "index", "rindex", "count", "isdigit", "isnumeric"}
_DECIDING |= {"match", "search", "fullmatch", "findall"}
"""Names of functions and methods whose result depends on the content of a text."""
_TEXTUAL = {"str", "repr", "ascii", "format", "join", "map", "list", "tuple", "replace", "lower", "upper", "title"}
_TEXTUAL |= {"strip", "lstrip", "rstrip", "split", "rsplit", "partition", "rpartition", "removeprefix", "removesuffix"}
_TEXTUAL |= {"zfill", "encode"}
"""Names of functions and methods that turn a text into another text."""


def is_branched_on(frame: FrameType) -> bool:
    """Return whether the computation depends on the text that the current instruction of a user's frame creates.

    The text may be compared, looked up in a table or measured: at once, as a part of a longer text, under the name that
    it is assigned to, or by the caller of the function that returns it. A table that the same function fills is a
    cache, whose values equal those that the function would compute.
    """
    caller: FrameType | None = frame
    while caller is not None and is_user_file(caller.f_code.co_filename):
        uses = _find_uses(caller.f_code, caller.f_lasti)
        if "branch" in uses:
            return True
        if "return" not in uses:
            return False
        caller = caller.f_back
    return False


@lru_cache(maxsize=4096)
def _find_uses(code: CodeType, offset: int) -> frozenset[str]:
    """Return the uses of the text that the instruction at an offset creates: ``"branch"``, ``"return"``."""
    instructions = list(dis.get_instructions(code))
    # In a frame that calls a function of Python, the offset is that of a cache behind the call.
    waiting = [max(n for n, instruction in enumerate(instructions) if instruction.offset <= offset)]
    seen: set[int] = set()
    uses: set[str] = set()
    while waiting:
        index = waiting.pop()
        if index not in seen:
            seen.add(index)
            for use, stored in _follow(instructions, index):
                uses.add(use)
                waiting += _find_loads(instructions, stored)
    return frozenset(uses)


def _follow(instructions: list[dis.Instruction], index: int) -> Iterator[tuple[str, str]]:
    """Yield the uses of a text and of the texts made of it, and the name to which each is assigned, if any."""
    text = instructions[index]
    yield from _find_next_use(instructions, index)
    joined = [n for n in range(index, len(instructions)) if instructions[n].opname == "BUILD_STRING"]
    around = [n for n, other in enumerate(instructions) if _encloses(other, text)]
    around += [n for n in joined if _span(instructions[n]) == _span(text)]  # it has the source of its parts
    for number in sorted(around, key=lambda n: (_extent(instructions[n]), n)):
        outer = instructions[number]
        is_call = outer.opname in _CALLING
        called = _find_names(instructions, outer)[0] if is_call else ""
        table = _find_table(instructions, number, text)
        is_cache = table != "" and table in _find_filled_tables(instructions)
        if outer.opname in ("COMPARE_OP", "CONTAINS_OP") or called in _DECIDING | _LOOKING_UP or table:
            if not is_cache:
                yield "branch", ""
            return
        if outer.opname == "RAISE_VARARGS" or (is_call and called not in _TEXTUAL):
            return
        yield from _find_next_use(instructions, number)


def _find_next_use(instructions: list[dis.Instruction], index: int) -> Iterator[tuple[str, str]]:
    """Yield whether the value of an instruction is returned by the next one, or stored, and under which name."""
    for instruction in instructions[index + 1 :]:
        if instruction.opname in _GIVING:
            yield "return", ""
        elif instruction.opname.startswith("STORE_") and isinstance(instruction.argval, str):
            yield "store", instruction.argval
        if instruction.opname not in _BETWEEN:
            return


def _find_loads(instructions: list[dis.Instruction], name: str) -> list[int]:
    loads = [n for n, instruction in enumerate(instructions) if instruction.opname.startswith("LOAD_")]
    return [n for n in loads if name and instructions[n].argval == name]


def _find_names(instructions: list[dis.Instruction], outer: dis.Instruction) -> list[str]:
    """Return the names with which the source of an instruction begins, the last first: ``get``, ``table``, ``self``."""
    inner = [other for other in instructions if _encloses(outer, other) and _begins_with(outer, other)]
    named = [
        n for n in inner if n.opname.startswith("LOAD_") and n.opname != "LOAD_CONST" and isinstance(n.argval, str)
    ]
    return [str(other.argval) for other in sorted(named, key=_extent, reverse=True)] or [""]


def _find_table(instructions: list[dis.Instruction], index: int, text: dis.Instruction) -> str:
    """Return the name of the table in which an instruction looks for a text; empty where it does something else."""
    lookup = instructions[index]
    called, owner, *_ = (*_find_names(instructions, lookup), "", "")
    if lookup.opname == "BINARY_SUBSCR" and not _begins_with(lookup, text):
        return called or "a table"
    if lookup.opname == "CONTAINS_OP" and isinstance(instructions[index - 1].argval, str):
        return str(instructions[index - 1].argval)
    return owner if lookup.opname in _CALLING and called in _LOOKING_UP else ""


def _find_filled_tables(instructions: list[dis.Instruction]) -> set[str]:
    stores = [instruction for instruction in instructions if instruction.opname == "STORE_SUBSCR"]
    return {_find_names(instructions, store)[0] for store in stores}


def _span(instruction: dis.Instruction) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where the source of an instruction begins and ends: lines and columns; zeros where that is unknown."""
    line, end_line, column, end_column = instruction.positions or (None, None, None, None)
    return (line or 0, column or 0), (end_line or 0, end_column or 0)


def _extent(instruction: dis.Instruction) -> tuple[int, int]:
    """Return the number of lines and of columns of an instruction's source, for an order by size."""
    (line, column), (end_line, end_column) = _span(instruction)
    return end_line - line, end_column - column


def _encloses(outer: dis.Instruction, inner: dis.Instruction) -> bool:
    """Return whether the source of one instruction contains that of another, and more."""
    (begin, end), (inner_begin, inner_end) = _span(outer), _span(inner)
    return begin <= inner_begin and inner_end <= end and (begin, end) != (inner_begin, inner_end)


def _begins_with(outer: dis.Instruction, inner: dis.Instruction) -> bool:
    return _span(outer)[0] == _span(inner)[0]
