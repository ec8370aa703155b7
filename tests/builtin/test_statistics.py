"""Statistics over many images: those of all values at once, however they came."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from functools import reduce
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import surgery
from surgery.builtin.sinks.statistics import Statistics
from surgery.builtin.sinks.statistics_table import QUANTILES, StatisticsTable
from surgery.data import inputs
from surgery.drawing import (
    Histograms,
    Moments,
    compiled_kernels,
    find_histograms,
    find_moments,
    merge_moments,
)
from surgery.errors import OutputError, RenderError
from surgery.output import gathering

NUMBERS = ("count", "mean", "squares", "least", "greatest", "zeros", "nan", "inf")


def odd_maps() -> Tensor:
    maps = torch.randn(3, 5, 4, 7) * 100
    maps[:, 1] = 1e7 + maps[:, 1].round()
    maps[:, 2] = maps[:, 2].relu()
    maps[1, 3, 0] = torch.nan
    maps[2, 3, 1, 1] = -torch.inf
    maps[:, 4] = torch.inf
    return maps


def same(one: Moments, other: Moments, tolerance: float = 0) -> bool:
    return all(np.allclose(getattr(one, name), getattr(other, name), tolerance, 0) for name in NUMBERS)


def test_moments_are_those_of_all_values_in_float64() -> None:
    maps = odd_maps()
    found = find_moments(maps)
    for channel, values in enumerate(maps.double().transpose(0, 1).flatten(1).numpy()):
        finite = values[np.isfinite(values)]
        assert found.count[channel] == len(finite)
        assert found.nan[channel] == np.isnan(values).sum()
        assert found.inf[channel] == np.isinf(values).sum()
        assert found.zeros[channel] == (finite == 0).sum()
        if len(finite):
            assert found.mean[channel] == pytest.approx(finite.mean(), rel=1e-14)
            assert found.std[channel] == pytest.approx(finite.std(), rel=1e-12)
            assert (found.least[channel], found.greatest[channel]) == (finite.min(), finite.max())
        else:
            assert np.isnan(found.std[channel])


@pytest.mark.parametrize("shape", [(1, 3, 5, 7), (2, 1, 1, 1), (2, 6, 8, 8), (1, 2, 1, 9), (1, 2, 0, 3), (1, 0, 2, 2)])
def test_the_kernels_give_the_bits_of_numpy(shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    maps = (torch.randn(shape) * 3 + 100).round(decimals=1)
    found = find_moments(maps)
    monkeypatch.setattr(compiled_kernels, "kernels", None)
    assert same(found, find_moments(maps))


def test_merged_moments_do_not_depend_on_how_the_values_were_divided() -> None:
    maps = torch.cat([odd_maps(), 5e3 + odd_maps().flip(0)])
    whole = find_moments(maps)
    parts = reduce(Moments.merge, [find_moments(maps[:1]), find_moments(maps[1:4]), find_moments(maps[4:])])
    assert same(whole, parts, 1e-12)
    fewer = find_moments(maps[:, :2]).merge(find_moments(maps))
    assert fewer.count.tolist() == (whole.count * [2, 2, 1, 1, 1]).tolist()
    together = find_moments(maps.transpose(0, 1).reshape(1, 1, -1, 7))
    assert same(whole.over_channels(), together, 1e-12)


@pytest.mark.parametrize("bins", [2, 7, 64])
@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e20])
def test_a_histogram_counts_what_numpy_counts_between_the_same_edges(bins: int, scale: float) -> None:
    maps = odd_maps() * scale
    found = find_histograms(maps, bins)
    for channel, values in enumerate(maps.double().transpose(0, 1).flatten(1).numpy()):
        edges = np.ldexp(found.first[channel] + np.arange(bins + 1.0), found.exponent[channel])
        finite = values[np.isfinite(values)]
        counted = np.searchsorted(edges, finite, side="right") - 1
        assert np.array_equal(np.bincount(counted, minlength=bins), found.counts[channel])
        if len(finite):
            width = edges[1] - edges[0]
            quantiles = found.quantiles(np.array(QUANTILES))[channel]
            exact = np.quantile(finite, QUANTILES, method="inverted_cdf")
            assert (np.abs(quantiles - exact) <= width).all()
            assert channel == 1 or np.ptp(finite) > width * (bins - 2) / 4  # bins are not wider than they must be


def test_merged_histograms_are_those_of_all_values_in_any_order() -> None:
    maps = torch.cat([odd_maps() * 1e-3, odd_maps() + 40, odd_maps() * 1e4])
    whole = find_histograms(maps, 16)
    for order in ([0, 1, 2, 3, 4, 5, 6, 7, 8], [8, 3, 0, 5, 1, 7, 2, 6, 4]):
        parts = [find_histograms(maps[number : number + 1], 16) for number in order]
        merged = reduce(Histograms.merge, parts)
        filled = whole.counts.any(1)
        assert np.array_equal(merged.counts, whole.counts)
        assert np.array_equal(merged.exponent[filled], whole.exponent[filled])
        assert np.array_equal(merged.first[filled], whole.first[filled])


@pytest.mark.parametrize("value", [0.0, 1e-3, 5.0, float("nan")])
def test_an_image_whose_values_are_all_equal_does_not_make_the_bins_of_others_wider(value: float) -> None:
    base = 0.0 if math.isnan(value) else value
    maps = torch.cat([torch.full((1, 1, 3, 3), value), torch.rand(1, 1, 3, 3) * 1e-3 + base])
    whole = find_histograms(maps, 16)
    merged = find_histograms(maps[:1], 16).merge(find_histograms(maps[1:], 16))
    assert (merged.exponent, merged.first, merged.counts.tolist()) == (
        whole.exponent,
        whole.first,
        whole.counts.tolist(),
    )
    assert (whole.counts > 0).sum() > 3


class Net(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(x * 2)
        return torch.cat([h, x.flatten(2).sum(2)[..., None, None].expand_as(x)], 1)


def written(folder: Path, images: Path, sink: Any, batch_size: int) -> dict[str, Any]:
    surgery.extract(Net(), images, out=folder, sinks=[sink], batch_size=batch_size, reader="array")
    content: dict[str, Any] = json.loads((folder / "statistics.json").read_text())
    return content


def test_the_file_has_the_numbers_of_all_images_and_does_not_depend_on_batches(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    drawn = np.random.default_rng(0).standard_normal((5, 1, 3, 6, 6)).astype(np.float32)
    for number, values in enumerate(drawn):
        np.save(images / f"{number}.npy", values)
    one = written(tmp_path / "one", images, Statistics(bins=8), 1)
    three = written(tmp_path / "three", images, "stats:bins=8", 3)
    assert one["operations"] == three["operations"]
    assert one["images"] == 5
    assert list(one["operations"]) == list(dict.fromkeys(["input", *one["operations"]]))
    relu = one["operations"]["relu"]
    values = np.maximum(drawn.astype(np.float64) * 2, 0)[:, 0]
    assert relu["channels"]["mean"] == pytest.approx(values.mean((0, 2, 3)).tolist(), rel=1e-12)
    assert relu["channels"]["std"] == pytest.approx(values.std((0, 2, 3)).tolist(), rel=1e-12)
    assert relu["channels"]["zeros"] == (values == 0).sum((0, 2, 3)).tolist()
    assert relu["all"]["mean"] == pytest.approx(values.mean(), rel=1e-12)
    assert relu["all"]["count"] == values.size
    assert set(relu["quantiles"]) == {"0.01", "0.05", "0.25", "0.5", "0.75", "0.95", "0.99"}
    manifest = json.loads((tmp_path / "one" / "manifest.json").read_text())
    assert manifest["files"] == ["statistics.json"]
    assert "histograms" not in written(tmp_path / "none", images, "stats", 2)["operations"]["relu"]


def channel_maps(images: int) -> list[Tensor]:
    """Return maps of images of two sizes, with channels whose sums lie often in the middle of two float64."""
    return [torch.randn(1, 40, 10 if number % 6 else 7, 8).relu() + (number % 2) * 1e-3 for number in range(images)]


@pytest.mark.parametrize("images", [2, 8, 13, 64])
def test_moments_are_the_same_bits_in_any_order_and_grouping(images: int) -> None:
    all_maps = channel_maps(images)
    found = [find_moments(maps) for maps in all_maps]
    expected = reduce(Moments.merge, found).settle()
    random = np.random.default_rng(images)
    for _ in range(40):
        order = random.permutation(images)
        first, second = np.split(order, [random.integers(1, images)])
        parts = merge_moments([found[number] for number in first]), reduce(Moments.merge, [found[n] for n in second])
        merged = parts[1].merge(parts[0]).settle()
        assert all(np.array_equal(getattr(merged, name), getattr(expected, name)) for name in NUMBERS)
    exact = [Fraction(value) for maps in all_maps for value in maps[0, 0].flatten().tolist()]
    mean = sum(exact) / len(exact)
    assert expected.mean[0] == pytest.approx(float(mean), rel=1e-14)
    assert expected.squares[0] == pytest.approx(float(sum((each - mean) ** 2 for each in exact)), rel=1e-12)


def test_sums_that_overflow_are_infinite_and_spoil_no_other_channel() -> None:
    maps = torch.ones(3, 2, 2, 2, dtype=torch.float64)
    maps[:, 0] = torch.tensor([1e200, -1e200, 1e200], dtype=torch.float64)[:, None, None]
    found = find_moments(maps).settle()
    assert found.squares.tolist() == [np.inf, 0]
    assert found.mean[1] == 1
    assert found.greatest[0] == 1e200


def test_the_sign_of_a_zero_does_not_depend_on_the_order() -> None:
    one, other = (find_moments(torch.full((1, 1, 2, 2), zero)) for zero in (0.0, -0.0))
    assert not np.signbit(one.merge(other).least) and not np.signbit(other.merge(one).least)  # noqa: PT018


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_tables_of_any_parts_are_written_as_that_of_all_images(data: st.DataObject) -> None:
    """Images may take other ways, or have other channels; parts are saved and read before they are merged."""
    images = data.draw(st.integers(1, 7))
    tables = []
    for number in range(images):
        torch.manual_seed(number)
        paths = data.draw(st.lists(st.sampled_from(["a", "b", "b10", "b9"]), min_size=1, unique=True))
        found = {}
        for path in paths:
            maps = torch.randn(1, data.draw(st.integers(0, 4)), 3, 2 + number % 2)
            found[path] = ("kind", "ab".find(path[0]), find_moments(maps), find_histograms(maps, 4))
        tables.append(StatisticsTable.of_image(found, 1, {"mode": "eval"}))
    with TemporaryDirectory() as home:
        whole, parts = Path(home) / "whole", Path(home) / "parts"
        reduce(StatisticsTable.merge, tables).save(whole, is_part=False)
        order = data.draw(st.permutations(tables))
        cuts = sorted(data.draw(st.lists(st.integers(0, images), max_size=3)))
        groups = [order[start:end] for start, end in zip([0, *cuts], [*cuts, images], strict=True) if start < end]
        read = []
        for group in groups:
            reduce(StatisticsTable.merge, group).save(parts, is_part=True)
            read.append(StatisticsTable.load(parts))
        reduce(StatisticsTable.merge, read).save(parts, is_part=False)
        assert parts.read_bytes() == whole.read_bytes()
        StatisticsTable.load(parts).save(parts, is_part=False)
        assert parts.read_bytes() == whole.read_bytes()


def test_an_empty_histogram_does_not_widen_the_bins_of_another() -> None:
    maps = torch.rand(2, 1, 4, 4) * 1e-3
    empty = find_histograms(torch.full((1, 1, 4, 4), torch.nan), 8)
    whole = find_histograms(maps, 8)
    for parts in ([empty, whole], [whole, empty], [find_histograms(maps[:1], 8), empty, find_histograms(maps[1:], 8)]):
        merged = reduce(Histograms.merge, parts)
        assert np.array_equal(merged.counts, whole.counts)
        assert np.array_equal(merged.exponent, whole.exponent)


def test_jobs_shards_and_stopped_runs_give_the_bytes_of_one_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    random = np.random.default_rng(1)
    for number in range(9):
        np.save(images / f"{number}.npy", random.standard_normal((1, 3, 6 + number % 2, 6)).astype(np.float32))
    (images / "4.npy").write_bytes(b"no array")

    def run(out: str, **options: Any) -> surgery.Report:
        sinks = [Statistics(bins=4), "npz"]
        return surgery.extract(Net(), images, out=tmp_path / out, sinks=sinks, reader="array", batch_size=2, **options)

    run("whole")
    whole = tree(tmp_path / "whole")
    assert json.loads(whole["statistics.json"])["images"] == 8
    for out, options in {"jobs": {"jobs": 2}, "writers": {"writer_threads": 2}}.items():
        run(out, **options)
        assert tree(tmp_path / out) == whole
    for number in (2, 3, 1):
        run("shards", shard=(number, 3))
    surgery.merge(tmp_path / "shards", out=tmp_path / "merged")
    assert tree(tmp_path / "merged") == whole
    assert surgery.verify(tmp_path / "merged").sound
    for interval in (0.0, 1e9):
        monkeypatch.setattr(gathering, "SAVE_INTERVAL", interval)
        for stop in (2, 5):
            out = f"stopped-{interval}-{stop}"
            run(out, progress=Stop(stop))
            part = json.loads((tmp_path / out / "statistics.json").read_text())
            manifest = json.loads((tmp_path / out / "manifest.json").read_text())
            assert part["images"] == sum("name" in entry for entry in manifest["images"]) > 0
            assert surgery.verify(tmp_path / out).sound
            run(out, jobs=2)
            assert tree(tmp_path / out) == whole
    run("whole")  # tries the one that failed again
    assert tree(tmp_path / "whole") == whole


class Stop:
    """Presses Ctrl-C after so many images."""

    def __init__(self, images: int) -> None:
        self.images = images

    def __call__(self, progress: Any) -> None:
        if progress.done >= self.images:
            raise KeyboardInterrupt


def tree(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_images_that_were_not_finished_do_not_count(tmp_path: Path) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for number in range(4):
        np.save(images / f"{number}.npy", np.full((1, 3, 2, 2), number, np.float32))

    class Fails(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            h = x + 1
            if x.max() > 2:
                raise ValueError
            return h

    report = surgery.extract(
        Fails(), images, out=tmp_path / "out", sinks=["stats"], reader="array", front_end="observed", check=False
    )
    assert report.images == 3
    content = json.loads((tmp_path / "out" / "statistics.json").read_text())
    assert content["images"] == 3
    assert content["operations"]["add"]["channels"]["max"] == [3.0, 3.0, 3.0]


def test_what_the_sink_can_not_do_is_refused(tmp_path: Path) -> None:
    for bins in (-1, 1, 5000):
        with pytest.raises(RenderError, match="bins is 0, or from 2 to 4096"):
            Statistics(bins=bins)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "statistics.json").write_text("mine")
    with pytest.raises(OutputError, match=r"statistics.json: a file of that name is there, which is of no run"):
        surgery.extract(Net(), inputs(), out=tmp_path / "out", sinks=["stats"])
    assert (tmp_path / "out" / "statistics.json").read_text() == "mine"
