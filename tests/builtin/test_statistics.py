"""Statistics over many images: those of all values at once, however they came."""

from __future__ import annotations

import json
import math
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.builtin.sinks.statistics import QUANTILES, Statistics
from surgery.data import inputs
from surgery.drawing import Histograms, Moments, compiled_kernels, find_histograms, find_moments
from surgery.errors import ModelError, RenderError

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
    with pytest.raises(ModelError, match="files of several images"):
        surgery.extract(Net(), inputs(), out=tmp_path / "out", sinks=["stats"], jobs=2)
