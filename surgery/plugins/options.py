r"""Options of a stage: the fields of a dataclass, set from text such as ``columns=8,gap=2``.

A field may be a ``bool`` (``yes``, ``No``, ``TRUE``, ``1``), ``int``, ``float``, ``str``, ``Path``, an ``Enum`` (by the
name or the value of a member, in any case), a ``Literal``, or ``None`` (``none``); a union of these; and a ``tuple``,
``list``, ``set`` or ``Sequence`` of them, whose values are separated by commas: ``sizes=1,2,names=a,b``. A comma or an
equals sign in a text is written ``\,`` and ``\=``. What has another type is set in Python alone.
"""

from __future__ import annotations

import collections.abc
import os
import re
import sys
import types
import typing
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from enum import Enum
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from surgery.errors import PluginError, SurgeryError, did_you_mean, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a stage."""

    name: str
    expected: str
    """What it takes, in words: ``a whole number or none``."""
    default: Any
    """What it is where nothing is said."""


def list_options(stage: object) -> list[Option]:
    """The options of a stage, in order; none of what is no dataclass."""
    if not is_dataclass(stage) or isinstance(stage, type):
        return []
    hints = _hints(stage)
    return [
        Option(option.name, _describe_type(hints[option.name]), getattr(stage, option.name, MISSING))
        for option in fields(stage)
        if option.init
    ]


def configure(name: str, stage: Any, text: str) -> Any:
    """A stage, called `name`, with those of its options set that the text says.

    Raises PluginError for a text that can't be read so and for a value that the stage refuses, or what the stage itself
    raises of ours.
    """
    names = [option.name for option in list_options(stage)]
    if not names:
        raise PluginError(f"{name} takes no options")
    hints = _hints(stage)
    given = _given(name, text, names, hints)
    changes = {key: _converted(name, key, pieces, hints[key]) for key, pieces in given.items()}
    try:
        return replace(stage, **changes)
    except SurgeryError:
        raise
    except Exception as error:
        raise PluginError(_refusal(name, error, given, hints)) from error


def format_option_value(value: object) -> str:
    """The value of an option, as it is written behind the colon of a name."""
    if value is None or isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, (tuple, list)):
        return ",".join(map(format_option_value, value))
    if isinstance(value, (set, frozenset)):
        return ",".join(sorted(map(format_option_value, value)))
    if isinstance(value, (str, PurePath)):
        return re.sub(r"([,=])", r"\\\1", str(value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _given(name: str, text: str, names: Sequence[str], hints: dict[str, Any]) -> dict[str, list[str]]:
    """The pieces of text that are given for each option: one, or those between the commas of several values."""
    given: dict[str, list[str]] = {}
    key = ""
    for piece in re.split(r"(?<!\\),", text):
        parts = re.split(r"(?<!\\)=", piece, maxsplit=1)
        if len(parts) == 1:
            if not key or not _takes_several(hints[key]):
                raise PluginError(f"options of {name} are written name=value, not {piece!r}")
            given[key].append(_plain(piece))
            continue
        key = parts[0].strip()
        if key not in names:
            near = did_you_mean(key, names)
            raise PluginError(f"no option of {name} is called {key!r}; it takes {', '.join(names)}{near}")
        given[key] = [_plain(parts[1])]
    return given


def _plain(piece: str) -> str:
    return re.sub(r"\\([,=])", r"\1", piece.strip())


def _refusal(name: str, error: Exception, given: dict[str, list[str]], hints: dict[str, Any]) -> str:
    """Why a stage does not take values of the right types; a library that checks them says so in words of its own."""
    found = getattr(error, "errors", None)
    details = found() if callable(found) else None
    for detail in details if isinstance(details, list) else ():
        option = str((detail.get("loc") or ("",))[0]) if isinstance(detail, dict) else ""
        if option in given:
            limits = {limit: value for limit, value in (detail.get("ctx") or {}).items() if limit in _WORDS}
            said = "".join(f", {_WORDS[limit]} {value}" for limit, value in limits.items())
            return f"{option} of {name} takes {_describe_type(hints[option])}{said}, not {','.join(given[option])!r}"
    options = ", ".join(f"{option}={','.join(pieces)}" for option, pieces in given.items())
    return f"{name} does not take {options}: {first_line(error)}"


_WORDS = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}


def _hints(stage: Any) -> dict[str, Any]:
    """The types of a stage's fields; of one whose type can't be read, that of its value."""
    kind = type(stage)
    try:
        return typing.get_type_hints(kind)
    except Exception:  # noqa: BLE001 - whatever evaluating an annotation raises, imported under TYPE_CHECKING alone say
        return {option.name: _hint(kind, option, getattr(stage, option.name, None)) for option in fields(stage)}


def _hint(kind: type, option: Any, value: object) -> Any:
    owner = next((base for base in kind.__mro__ if option.name in vars(base).get("__annotations__", {})), kind)
    if not isinstance(option.type, str):
        return option.type
    try:
        module = vars(sys.modules[owner.__module__])
        alone = type("_", (), {"__annotations__": {"x": option.type}})
        return typing.get_type_hints(alone, module, dict(vars(owner)))["x"]
    except Exception:  # noqa: BLE001
        return type(value) if isinstance(value, (bool, int, float, str, PurePath, Enum, tuple, list)) else _Unknown


class _Unknown:
    """The type of an option that can't be read."""


def _converted(name: str, option: str, pieces: Sequence[str], hint: Any) -> Any:
    readers = list(_alternatives(hint))
    if not readers:
        raise PluginError(
            f"{option} of {name} takes {_describe_type(hint)}, which can't be written here; set it in Python"
        )
    for reader, _ in readers:
        try:
            return reader(pieces)
        except (ValueError, KeyError):
            continue
    raise PluginError(f"{option} of {name} takes {_describe_type(hint)}, not {','.join(pieces)!r}")


def _describe_type(hint: Any) -> str:
    return " or ".join(dict.fromkeys(wanted for _, wanted in _ways(_parts(hint)))) or _called(hint)


def _called(hint: Any) -> str:
    return "a value of a type that can't be read" if hint is _Unknown else str(getattr(hint, "__name__", hint))


def _takes_several(hint: Any) -> bool:
    return any(_member(part) is not None for part in _parts(hint))


def _parts(hint: Any) -> Iterator[Any]:
    """The types that a type is a union of, or it alone, without what only annotates them."""
    hint = getattr(hint, "__supertype__", getattr(hint, "__value__", hint) if not isinstance(hint, type) else hint)
    if get_origin(hint) in (typing.Union, types.UnionType):
        for part in get_args(hint):
            yield from _parts(part)
    elif get_origin(hint) in (typing.Annotated, typing.Final):
        yield from _parts(get_args(hint)[0])
    else:
        yield hint


def _member(hint: Any) -> tuple[Any, list[Any], int | None] | None:
    """What several values become, the types of its members, and how many they have to be; None of another type."""
    origin = get_origin(hint) or hint
    made = _COLLECTIONS.get(origin) if isinstance(origin, type) else None
    if made is None:
        return None
    members = [member for member in get_args(hint) if member is not Ellipsis] or [str]
    fixed = origin is tuple and get_args(hint) and Ellipsis not in get_args(hint)
    return made, members, len(members) if fixed else None


_COLLECTIONS: dict[Any, Callable[[Any], Any]] = {
    **dict.fromkeys((tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection), tuple),
    **dict.fromkeys((list, collections.abc.MutableSequence), list),
    **dict.fromkeys((set, collections.abc.MutableSet), set),
    **dict.fromkeys((frozenset, collections.abc.Set), frozenset),
}


def _alternatives(hint: Any) -> Iterator[tuple[Callable[[Sequence[str]], Any], str]]:
    """Each way to read a value of this type from pieces of text, and its name, in the order to try them."""
    yield from _ways(sorted(_parts(hint), key=_rank))


def _ways(parts: Iterable[Any]) -> Iterator[tuple[Callable[[Sequence[str]], Any], str]]:
    for part in parts:
        if (several := _member(part)) is not None:
            yield _several(*several)
        elif (one := _single(part)) is not None:
            yield partial(_of_one, one[0]), one[1]


def _several(
    made: Callable[[Any], Any], members: list[Any], count: int | None
) -> tuple[Callable[[Sequence[str]], Any], str]:
    def read(pieces: Sequence[str]) -> Any:
        pieces = list(pieces)
        if pieces[0][:1] in ("(", "[") and pieces[-1][-1:] == {"(": ")", "[": "]"}[pieces[0][0]]:
            pieces[0], pieces[-1] = pieces[0][1:], pieces[-1] if len(pieces) > 1 else pieces[0][1:]
            pieces[-1] = pieces[-1][:-1]
        pieces = [piece.strip() for piece in pieces]
        if pieces[-1] == "":  # nothing, or a comma behind the last
            pieces.pop()
        if count is not None and len(pieces) != count:
            raise ValueError(count)
        kinds = members if count is not None else members * len(pieces)
        return made(_first(list(_alternatives(kind)), piece) for kind, piece in zip(kinds, pieces, strict=True))

    words = [_describe_type(member) for member in dict.fromkeys(members)]
    many = f"{count} values" if count is not None else "values"
    return read, f"{many} separated by commas ({', '.join(words)})"


def _first(readers: Sequence[tuple[Callable[[Sequence[str]], Any], str]], piece: str) -> Any:
    for reader, _ in readers:
        try:
            return reader([piece])
        except (ValueError, KeyError):
            continue
    raise ValueError(piece)


def _of_one(read: Callable[[str], Any], pieces: Sequence[str]) -> Any:
    if len(pieces) != 1:
        raise ValueError(pieces)
    return read(pieces[0])


_TRUTH = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
_SINGLE: dict[Any, tuple[Callable[[str], Any], str]] = {
    type(None): (lambda text: {"none": None, "": None}[text.lower()], "none"),
    bool: (lambda text: _TRUTH[text.lower()], "true or false"),
    int: (int, "a whole number"),
    float: (float, "a number"),
    **dict.fromkeys((Path, PurePath, os.PathLike), (lambda text: Path(text).expanduser(), "a path")),
    **dict.fromkeys((str, object, Any), (str, "text")),
}
"""How a value of a type is read from text, and its name."""
_TEXTS = (str, object, Any, Path, PurePath, os.PathLike)


def _rank(hint: Any) -> int:
    """In which order the types of a union are tried: none first, and text, which takes everything, last."""
    return 0 if hint is type(None) else 2 if hint in _TEXTS else 1


def _single(hint: Any) -> tuple[Callable[[str], Any], str] | None:
    """How one value of a type is read from text, and its name; None of a type that has no text."""
    if get_origin(hint) is Literal:
        return _one_of({format_option_value(choice): choice for choice in get_args(hint)})
    if isinstance(hint, type) and issubclass(hint, Enum):
        read, _ = _one_of({**{str(member.value): member for member in hint}, **hint.__members__})
        return read, ", ".join(hint.__members__)
    hint = os.PathLike if get_origin(hint) is os.PathLike else hint
    return _SINGLE.get(hint) if isinstance(hint, collections.abc.Hashable) else None


def _one_of(choices: dict[str, Any]) -> tuple[Callable[[str], Any], str]:
    return (lambda text: choices[text] if text in choices else _folded(choices)[text.lower()]), ", ".join(choices)


def _folded(choices: dict[str, Any]) -> dict[str, Any]:
    return {name.lower(): choice for name, choice in reversed(choices.items())}
