"""Which operations of two models correspond, on planted insertions, deletions and renames."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import surgery
from surgery.comparison.alignment import align, find_again
from surgery.errors import SelectionError
from surgery.graph import find_edges
from surgery.types import Operation, TensorSpec
from tests.verification.test_laws import steady


def sequence(kinds: list[int]) -> list[Operation]:
    return [
        Operation(
            f"n{n}", f"block{n}.{'abcd'[kind]}", "abcd"[kind], n + 1, tensors=(TensorSpec("", (1, 4, n, n), "f"),)
        )
        for n, kind in enumerate(kinds)
    ]


@settings(steady, max_examples=100)
@given(st.lists(st.integers(0, 3), min_size=2, max_size=20), st.data())
def test_planted_insertions_and_deletions_are_found(kinds: list[int], data: st.DataObject) -> None:
    first = sequence(kinds)
    kept = [each for each in first if data.draw(st.integers(0, 3))] or first[:1]
    second = list(kept)
    added = Operation("new", "new.z", "z", 0)
    second.insert(data.draw(st.integers(0, len(second))), added)
    found = align(first, second)
    assert list(found.pairs) == [(each, each) for each in kept]
    assert list(found.only_first) == [each for each in first if each not in kept]
    assert found.only_second == (added,)


@settings(steady, max_examples=50)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=20))
def test_renamed_operations_are_found_by_kind_and_shape(kinds: list[int]) -> None:
    first = sequence(kinds)
    second = [replace(each, path=f"enc{each.index}") for each in first]
    assert [(one.index, other.index) for one, other in align(first, second).pairs] == [
        (n + 1, n + 1) for n in range(len(kinds))
    ]


def test_a_network_under_other_names_is_aligned_by_its_dataflow() -> None:
    model = surgery.load_model("facades").eval()
    traced = surgery.trace(model, torch.zeros(1, 3, 256, 256))
    known = surgery.operations(traced)
    other = [replace(each, path=each.path.replace("down", "enc").replace("up", "dec")) for each in known]
    found = align(known, other, (find_edges(traced), find_edges(traced)))
    assert [(one.index, two.index) for one, two in found.pairs] == [(each.index, each.index) for each in known]
    without = [each for each in other if not each.path.startswith("enc4")]
    found = align(known, without, (find_edges(traced), find_edges(traced)), {"down*": "enc*", "up*": "dec*"})
    assert {each.path for each in found.only_first} == {"down4.act", "down4.conv", "down4.norm"}


def test_what_could_correspond_to_several_operations_is_named() -> None:
    first = sequence([0, 0, 0])
    same = [replace(each, tensors=first[0].tensors) for each in first]
    second = [replace(each, path=f"q{each.index}") for each in same[:2]]
    found = align(same, second)
    assert len(found.pairs) == 2
    assert found.describe_ambiguity() == (
        "the alignment of 1 operation is ambiguous, such as block1.a with q1, q2; align names pairs"
    )
    found = align(same, second, names={"block1.a": "q1", "block2.a": "q2"})
    assert [(one.path, other.path) for one, other in found.pairs] == [("block1.a", "q1"), ("block2.a", "q2")]
    assert found.describe_ambiguity() == ""
    assert align(same, same).describe_ambiguity() == ""


def test_pairs_that_are_named_may_be_of_different_kinds() -> None:
    first, second = sequence([0, 1, 2]), [replace(each, path=f"q{each.index}") for each in sequence([0, 3, 2])]
    assert [one.path for one, _ in align(first, second).pairs] == ["block0.a", "block2.c"]
    found = align(first, second, names={"block1.b": "q2"})
    assert [other.path for _, other in found.pairs] == ["q1", "q2", "q3"]


def test_names_of_a_former_run_are_found_again() -> None:
    before = sequence([0, 1, 2])
    after = [replace(each, path=f"model.{each.path}") for each in before]
    assert find_again(["block1.b"], before, after) == {"block1.b": "model.block1.b"}
    with pytest.raises(SelectionError, match=r"^'block1.b' has no counterpart in the changed model$"):
        find_again(["block1.b"], before, [after[0], after[2]])
    with pytest.raises(SelectionError, match=r"^'block3.x' has no counterpart"):
        find_again(["block3.x"], before, after)
