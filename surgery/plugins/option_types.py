"""How a value of each type of an option is written as text, and read from it."""

from __future__ import annotations

import collections.abc
import os
import re
import types
import typing
from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args, get_origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Parser: TypeAlias = Callable[[Sequence[str]], Any]
"""Takes the pieces of text between commas; returns a value. Raises ValueError or KeyError if they don't fit."""


class UnknownType:
    """Stands for the type of an option whose annotation can't be evaluated."""


def describe_type(hint: Any) -> str:
    """Return what a type takes, in words: ``a whole number or none``."""
    descriptions = dict.fromkeys(description for _, description in _parsers_of(_union_members(hint)))
    if descriptions:
        return " or ".join(descriptions)
    return "a value of a type that can't be read" if hint is UnknownType else str(getattr(hint, "__name__", hint))


def takes_several_values(hint: Any) -> bool:
    """Return whether a type takes several values, separated by commas."""
    return any(_collection_of(member) is not None for member in _union_members(hint))


def find_parsers(hint: Any) -> list[Parser]:
    """Return the parsers of a type in the order in which to try them; an empty list if it can't be parsed from text.

    Of a union, ``None`` comes first and text, which accepts everything, last.
    """
    return [parser for parser, _ in _parsers_of(sorted(_union_members(hint), key=_rank))]


def parse(parsers: Iterable[Parser], pieces: Sequence[str]) -> Any:
    """Return the value that the first fitting parser reads. Raises ValueError if none fits."""
    for parser in parsers:
        try:
            return parser(pieces)
        except (ValueError, KeyError):
            continue
    raise ValueError(pieces)


def format_option_value(value: object) -> str:
    """Return the text of an option's value, as a user writes it after the colon of a name."""
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
    return _format_float(value) if isinstance(value, float) else str(value)


def _format_float(value: float) -> str:
    """Return the shortest text of a number: six digits if they are exact, and as many as are needed otherwise."""
    short = f"{value:g}"
    return short if float(short) == value else repr(float(value))


def _union_members(hint: Any) -> Iterator[Any]:
    """Yield the members of a union, or the type itself, without annotations, aliases and new types around them."""
    hint = getattr(hint, "__supertype__", getattr(hint, "__value__", hint) if not isinstance(hint, type) else hint)
    if get_origin(hint) in (typing.Union, types.UnionType):
        for member in get_args(hint):
            yield from _union_members(member)
    elif get_origin(hint) in (typing.Annotated, typing.Final):
        yield from _union_members(get_args(hint)[0])
    else:
        yield hint


def _parsers_of(members: Iterable[Any]) -> Iterator[tuple[Parser, str]]:
    """Yield a parser of each type that has one, and what it takes in words."""
    for member in members:
        if (collection := _collection_of(member)) is not None:
            yield _collection_parser(*collection)
        elif (single := _single_value(member)) is not None:
            convert, description = single
            yield partial(_parse_one, convert), description


_COLLECTIONS: dict[Any, Callable[[Any], Any]] = {
    **dict.fromkeys((tuple, collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection), tuple),
    **dict.fromkeys((list, collections.abc.MutableSequence), list),
    **dict.fromkeys((set, collections.abc.MutableSet), set),
    **dict.fromkeys((frozenset, collections.abc.Set), frozenset),
}
"""What is created for each type of collection."""


def _collection_of(hint: Any) -> tuple[Callable[[Any], Any], list[Any], int | None] | None:
    """Return what a collection type creates, the types of its items, and their number if it is fixed.

    Returns None for other types.
    """
    origin = get_origin(hint) or hint
    create = _COLLECTIONS.get(origin) if isinstance(origin, type) else None
    if create is None:
        return None
    items = [item for item in get_args(hint) if item is not Ellipsis] or [str]
    is_fixed = origin is tuple and get_args(hint) and Ellipsis not in get_args(hint)
    return create, items, len(items) if is_fixed else None


def _collection_parser(create: Callable[[Any], Any], items: list[Any], count: int | None) -> tuple[Parser, str]:
    def parse_items(pieces: Sequence[str]) -> Any:
        texts = _without_brackets(pieces)
        if texts[-1] == "":  # no value at all, or a comma after the last one
            texts.pop()
        if count is not None and len(texts) != count:
            raise ValueError(count)
        hints = items if count is not None else items * len(texts)
        return create(parse(find_parsers(hint), [text]) for hint, text in zip(hints, texts, strict=True))

    descriptions = [describe_type(item) for item in dict.fromkeys(items)]
    values = f"{count} values" if count is not None else "values"
    return parse_items, f"{values} separated by commas ({', '.join(descriptions)})"


def _without_brackets(pieces: Sequence[str]) -> list[str]:
    """Return the pieces without spaces, and without the brackets of ``(1,2)`` or ``[1,2]``."""
    texts = list(pieces)
    closing = {"(": ")", "[": "]"}.get(texts[0][:1])
    if closing is not None and texts[-1][-1:] == closing:
        texts[0] = texts[0][1:]
        texts[-1] = texts[-1][:-1]
    return [text.strip() for text in texts]


def _parse_one(convert: Callable[[str], Any], pieces: Sequence[str]) -> Any:
    if len(pieces) != 1:
        raise ValueError(pieces)
    return convert(pieces[0])


_TRUTH_VALUES = {
    **dict.fromkeys(("true", "yes", "on", "1"), True),
    **dict.fromkeys(("false", "no", "off", "0"), False),
}
_TEXT_TYPES = (str, object, Any, Path, PurePath, os.PathLike)
_SINGLE_VALUES: dict[Any, tuple[Callable[[str], Any], str]] = {
    type(None): (lambda text: {"none": None, "": None}[text.lower()], "none"),
    bool: (lambda text: _TRUTH_VALUES[text.lower()], "true or false"),
    int: (int, "a whole number"),
    float: (float, "a number"),
    **dict.fromkeys((Path, PurePath, os.PathLike), (lambda text: Path(text).expanduser(), "a path")),
    **dict.fromkeys((str, object, Any), (str, "text")),
}
"""For each type of a single value, its conversion from text and what it takes in words."""


def _rank(hint: Any) -> int:
    """Return the position of a type among those of a union: None, then all others, then text."""
    if hint is type(None):
        return 0
    return 2 if any(hint is text_type for text_type in _TEXT_TYPES) else 1


def _single_value(hint: Any) -> tuple[Callable[[str], Any], str] | None:
    """Return the conversion of one value of a type and what it takes in words; None if it can't be parsed from text."""
    if get_origin(hint) is Literal:
        choices = {format_option_value(choice): choice for choice in get_args(hint)}
        return partial(_choose, choices), ", ".join(choices)
    if isinstance(hint, type) and issubclass(hint, Enum):
        choices = {**{str(member.value): member for member in hint}, **hint.__members__}
        return partial(_choose, choices), ", ".join(hint.__members__)
    hint = os.PathLike if get_origin(hint) is os.PathLike else hint
    return _SINGLE_VALUES.get(hint) if isinstance(hint, collections.abc.Hashable) else None


def _choose(choices: dict[str, Any], text: str) -> Any:
    """Return the choice with this name, or else with this name in any case."""
    if text in choices:
        return choices[text]
    return {name.lower(): choice for name, choice in reversed(choices.items())}[text.lower()]
