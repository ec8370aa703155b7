"""A configured stage has a text, and the text gives the stage back."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.builtin import Blur, Clamp, Fixed, Grid, Mean, Noise, Percentile, Png, Replace, Scale, Shuffle, Zero
from surgery.builtin.transforms import TopK
from surgery.editing import Blend
from surgery.plugins import Plugins, format_stage
from tests.distributions import plugin

if TYPE_CHECKING:
    from surgery.plugins import Kind

BARE = Plugins(bare=True)


@pytest.mark.parametrize(
    ("kind", "stage", "text"),
    [
        ("edit", Zero(), "zero"),
        ("edit", Zero(channels=range(16)), "zero:channels=0-15"),
        ("edit", Zero(channels=(20, *range(16)), amount=0.5), "zero:channels=0-15,20,amount=0.5"),
        ("edit", Mean(over="batch", region=(0, 0, 0.5, 1 / 3)), "mean:over=batch,region=0,0,0.5,0.3333333333333333"),
        ("edit", Clamp(low=None, high=0), "clamp:low=none,high=0"),
        ("edit", Noise(relative=False), "noise:relative=false"),
        ("edit", Replace(), "replace"),
        ("normalizer", Percentile(low=0.1 + 0.2), "percentile:low=0.30000000000000004"),
        ("normalizer", Fixed(-1, 1), "fixed:low=-1"),
        ("tiler", Grid(columns=8, labels=True), "grid:columns=8,labels=true"),
        ("transform", TopK(4), "topk:k=4"),
        ("sink", Png(level=6), "png:level=6"),
        ("colormap", "magma", "magma"),
    ],
)
def test_a_text_has_the_options_that_differ_from_those_that_are_offered(kind: Kind, stage: Any, text: str) -> None:
    assert format_stage(kind, stage, BARE) == text
    assert BARE.resolve(kind, text) == stage


def test_files_are_written_as_their_paths(tmp_path: Path) -> None:
    np.save(tmp_path / "a,b.npy", np.zeros((2, 2)))
    edit = Replace(file=tmp_path / "a,b.npy", mask=tmp_path / "a,b.npy")
    path = f"{tmp_path}/a\\,b.npy"
    assert format_stage("edit", edit, BARE) == f"replace:file={path},mask={path}"


@dataclass(frozen=True)
class Unknown:
    def __call__(self, values: Any, /) -> Any: ...


@pytest.mark.parametrize(
    "stage",
    [Replace(values=torch.zeros(2, 2)), Blend(torch.ones(1, 1), Zero()), Unknown(), lambda values: values, abs, 3],
)
def test_what_no_text_gives_has_none(stage: Any) -> None:
    assert format_stage("edit", stage, BARE) is None


OFFERS = """
    import surgery
    from dataclasses import dataclass
    @dataclass(frozen=True)
    class Half:
        word: str = ""
        words: tuple[str, ...] = ()
        by: float = 0.5
        odd: object = None
        def __call__(self, values): return values * self.by
    def mirror(values): return values.flip(3)
    @surgery.hookimpl
    def surgery_edits(): return {"half": Half(), "tenth": Half(by=0.1), "zero": Half(by=0), "mirror": mirror}
"""


def test_the_shortest_text_is_taken_and_a_plugin_is_named_where_its_name_is_another_s(tmp_path: Path) -> None:
    plugins = Plugins([plugin(tmp_path, OFFERS)], bare=True)
    half = plugins.resolve("edit", "half")
    assert format_stage("edit", half, plugins) == "half"
    assert format_stage("edit", replace(half, by=0.1), plugins) == "tenth"
    assert format_stage("edit", replace(half, by=0.25), plugins) == "half:by=0.25"
    assert format_stage("edit", replace(half, by=0.0, word="a,b"), plugins) == r"half:word=a\,b,by=0"
    assert format_stage("edit", plugins.resolve("edit", "mirror"), plugins) == "mirror"
    assert format_stage("edit", Zero(), BARE) == "zero"
    assert format_stage("edit", replace(half, word=" "), plugins) is None


def test_a_name_that_two_plugins_offer_is_written_with_its_plugin(tmp_path: Path) -> None:
    own = """
    import surgery
    def two(values): return values * 2
    @surgery.hookimpl
    def surgery_edits(): return {"two": two}
    """
    (tmp_path / "other").mkdir()
    files = [plugin(tmp_path, own), plugin(tmp_path / "other", own.replace("* 2", "+ values"))]
    files[1] = files[1].rename(files[1].with_name("other.py"))
    plugins = Plugins(files, bare=True)
    double = plugins.resolve("edit", "other.py:two")
    assert format_stage("edit", double, plugins) == "other.py:two"


channels = st.none() | st.lists(st.integers(0, 300), min_size=1, max_size=12)
parts = st.integers(0, 100).flatmap(lambda start: st.tuples(st.just(start / 101), st.integers(1, 101 - start)))
regions = st.none() | st.tuples(parts, parts).map(
    lambda axes: (axes[0][0], axes[1][0], axes[0][1] / 101, axes[1][1] / 101)
)
finite = st.floats(allow_nan=False, allow_infinity=False)
places = {"channels": channels, "region": regions, "amount": st.floats(0, 1)}
seeds = st.integers(0, 2**63 - 1)
edits = st.one_of(
    st.builds(Zero, **places),
    st.builds(Mean, over=st.sampled_from(["space", "batch", "reference"]), **places),
    st.builds(Scale, by=finite, **places),
    st.builds(Clamp, low=st.none() | st.floats(-1e300, 0), high=st.floats(0, 1e300), **places),
    st.builds(Noise, std=st.floats(0, 1e300), seed=seeds, relative=st.booleans(), **places),
    st.builds(Shuffle, seed=seeds, **places),
    st.builds(Blur, sigma=st.floats(1e-3, 1e300), **places),
    st.builds(Replace, **places),
)


@settings(max_examples=300)
@given(edits)
def test_every_edit_is_what_its_text_says(edit: Any) -> None:
    text = format_stage("edit", edit, BARE)
    assert text is not None
    assert BARE.resolve("edit", text) == edit
    assert format_stage("edit", BARE.resolve("edit", text), BARE) == text
