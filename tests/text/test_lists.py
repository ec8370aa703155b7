"""Lists of names in a sentence."""

from __future__ import annotations

import pytest

from surgery.text import abbreviate_list


@pytest.mark.parametrize(
    ("names", "limit", "text"),
    [([], 3, ""), (["a", 2], 3, "a, 2"), ("abc", 3, "a, b, c"), ("abcd", 3, "a, b, c and 1 more"), ({"x": 1}, 1, "x")],
)
def test_a_long_list_ends_in_the_number_of_the_names_left_out(names: object, limit: int, text: str) -> None:
    assert abbreviate_list(names, limit) == text
