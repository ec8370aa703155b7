from __future__ import annotations

import pytest

from surgery.text.characters import escape_unprintable, replace_unencodable


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("two words, é", "two words, é"),
        ("no\u00a0break", "no\u00a0break"),
        ("\x1b[31mred", r"\x1b[31mred"),
        ("new\nline", r"new\nline"),
        ("x\u202egnp", r"x\u202egnp"),
        ("caf\udce9", r"caf\xe9"),
        ("\ud800", r"\ud800"),
    ],
)
def test_a_terminal_gets_an_escape_for_each_unprintable_character(text: str, expected: str) -> None:
    assert escape_unprintable(text) == expected
    assert "\n" not in escape_unprintable(text)


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("utf-8", "├─ é 1×3"),
        ("latin-1", "|- é 1×3"),
        ("ascii", r"|- \xe9 1x3"),
        (None, r"|- \xe9 1x3"),
        ("no such encoding", r"|- \xe9 1x3"),
    ],
)
def test_characters_that_an_encoding_lacks_are_replaced(encoding: str | None, expected: str) -> None:
    assert replace_unencodable("├─ é 1×3", encoding) == expected
    expected.encode(encoding if encoding in ("utf-8", "latin-1") else "ascii")
