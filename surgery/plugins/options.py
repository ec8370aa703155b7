r"""Options of a stage: the fields of a dataclass, set by a text such as ``columns=8,gap=2``.

A field may be a ``bool`` (``yes``, ``No``, ``TRUE``, ``1``), ``int``, ``float``, ``str``, ``Path``, an ``Enum`` (the
name or the value of a member, in any case), a ``Literal``, ``None`` (``none``), or a union of these. It may also be a
``tuple``, ``list``, ``set`` or ``Sequence`` of them, with commas between the values: ``sizes=1,2,names=a,b``. In a
text, a comma is written ``\,`` and an equals sign ``\=``. Fields of other types can only be set in Python.
"""

from __future__ import annotations

import re
import sys
import typing
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

from surgery.errors import PluginError, SurgeryError, did_you_mean, first_line
from surgery.plugins.option_types import (
    UnknownType,
    describe_type,
    find_parsers,
    format_option_value,
    parse,
    takes_several_values,
)

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a stage."""

    name: str
    expected: str
    """What it takes, in words: ``a whole number or none``."""
    default: Any


def list_options(stage: object) -> list[Option]:
    """Return the options of a stage in the order of its arguments; none if it is not a dataclass."""
    if not is_dataclass(stage) or isinstance(stage, type):
        return []
    hints = _type_hints(stage)
    return [
        Option(option.name, describe_type(hints[option.name]), getattr(stage, option.name, MISSING))
        for option in sorted(fields(stage), key=lambda option: bool(option.kw_only))
        if option.init
    ]


def configure(name: str, stage: Any, text: str) -> Any:
    """Return a copy of a stage with the options that a text sets; `name` names the stage in messages.

    Raises PluginError for an unknown option, a text that is not of the option's type, and a value that the stage
    rejects. An error of this project that the stage raises passes through.
    """
    names = [option.name for option in list_options(stage)]
    if not names:
        raise PluginError(f"{name} takes no options")
    hints = _type_hints(stage)
    pieces_of = _split_options(name, text, names, hints)
    changes = {option: _convert(name, option, pieces, hints[option]) for option, pieces in pieces_of.items()}
    try:
        return replace(stage, **changes)
    except SurgeryError:
        raise
    except Exception as error:
        raise PluginError(_describe_rejection(name, error, pieces_of, hints)) from error


def format_options(stage: Any, offered: Any) -> str | None:
    """Return the text of the options in which a stage differs from the one that is offered: ``columns=8,gap=2``.

    Both are of one type; the text is empty if they are equal. None if they differ in what no text can set.
    """
    hints = _type_hints(stage)
    texts = []
    for option in list_options(stage):
        value = getattr(stage, option.name)
        if _is_same(value, getattr(offered, option.name)):
            continue
        if not find_parsers(hints[option.name]):
            return None
        texts.append(f"{option.name}={format_option_value(value)}")
    return ",".join(texts)


def _is_same(one: object, other: object) -> bool:
    try:
        return one is other or bool(one == other)
    except Exception:  # noqa: BLE001 - arrays and tensors can't say whether they are equal, or not in one word
        return False


def _split_options(name: str, text: str, names: Sequence[str], hints: dict[str, Any]) -> dict[str, list[str]]:
    """Return for each option the pieces of its text: one, or those between the commas of several values."""
    pieces_of: dict[str, list[str]] = {}
    option = ""
    for piece in re.split(r"(?<!\\),", text):
        parts = re.split(r"(?<!\\)=", piece, maxsplit=1)
        if len(parts) == 1:
            if not option or not takes_several_values(hints[option]):
                raise PluginError(f"options of {name} are written name=value, not {piece!r}")
            pieces_of[option].append(_unescape(piece))
            continue
        option = parts[0].strip()
        if option not in names:
            hint = did_you_mean(option, names)
            raise PluginError(f"no option of {name} is called {option!r}; it takes {', '.join(names)}{hint}")
        pieces_of[option] = [_unescape(parts[1])]
    return pieces_of


def _unescape(piece: str) -> str:
    return re.sub(r"\\([,=])", r"\1", piece.strip())


def _convert(name: str, option: str, pieces: Sequence[str], hint: Any) -> Any:
    expected = describe_type(hint)
    parsers = find_parsers(hint)
    if not parsers:
        raise PluginError(f"{option} of {name} takes {expected}, which can't be written here; set it in Python")
    try:
        return parse(parsers, pieces)
    except ValueError:
        raise PluginError(f"{option} of {name} takes {expected}, not {','.join(pieces)!r}") from None


_COMPARISONS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _describe_rejection(name: str, error: Exception, pieces_of: dict[str, list[str]], hints: dict[str, Any]) -> str:
    """Return why a stage rejects values of the right types; the details of a pydantic error are put in words."""
    list_details = getattr(error, "errors", None)
    details = list_details() if callable(list_details) else None
    for detail in details if isinstance(details, list) else ():
        option = str((detail.get("loc") or ("",))[0]) if isinstance(detail, dict) else ""
        if option in pieces_of:
            bounds = (detail.get("ctx") or {}).items()
            limits = "".join(f", {_COMPARISONS[bound]} {value}" for bound, value in bounds if bound in _COMPARISONS)
            given = ",".join(pieces_of[option])
            return f"{option} of {name} takes {describe_type(hints[option])}{limits}, not {given!r}"
    options = ", ".join(f"{option}={','.join(pieces)}" for option, pieces in pieces_of.items())
    return f"{name} does not take {options}: {first_line(error)}"


def _type_hints(stage: Any) -> dict[str, Any]:
    """Return the types of a stage's fields."""
    kind = type(stage)
    try:
        return typing.get_type_hints(kind)
    except Exception:  # noqa: BLE001 - an annotation may raise anything, such as NameError for a TYPE_CHECKING import
        return {option.name: _type_hint(kind, option, getattr(stage, option.name, None)) for option in fields(stage)}


def _type_hint(kind: type, option: Any, value: object) -> Any:
    """Return the type of one field, or the type of its value if the annotation can't be evaluated."""
    owner = next((base for base in kind.__mro__ if option.name in vars(base).get("__annotations__", {})), kind)
    if not isinstance(option.type, str):
        return option.type
    try:
        module = vars(sys.modules[owner.__module__])
        holder = type("_", (), {"__annotations__": {"x": option.type}})
        return typing.get_type_hints(holder, module, dict(vars(owner)))["x"]
    except Exception:  # noqa: BLE001
        return type(value) if isinstance(value, (bool, int, float, str, PurePath, Enum, tuple, list)) else UnknownType
