from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import surgery
from surgery.errors import ModelError
from surgery.studies.memory_limits import MemoryMeter, find_width, format_memory, parse_memory


@pytest.mark.parametrize(
    ("text", "size"),
    [("2GB", 2 * 10**9), ("500MB", 5 * 10**8), ("1.5 gb", 15 * 10**8), ("64KB", 64000), (1000, 1000), ("12", 12)],
)
def test_a_limit_is_a_number_of_bytes_or_a_text(text: int | str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "much", "-1GB", "0", "2GiB", "1e9", "nan", 0, -5])
def test_a_limit_that_can_not_be_read_is_one_line(text: int | str) -> None:
    with pytest.raises(ModelError, match="a limit of memory is a number of bytes, or a text such as 2GB or 500MB, not"):
        parse_memory(text)


def test_memory_is_shown_in_the_unit_that_fits() -> None:
    assert [format_memory(size) for size in (12, 64000, 1.5e9)] == ["12 B", "64 KB", "1.5 GB"]


def test_as_many_variants_share_a_batch_as_the_memory_allows() -> None:
    assert find_width(peak=100, fixed=0, variants=16, limit=3000) == 10
    assert find_width(peak=100, fixed=0, variants=4, limit=3000) == 4
    assert find_width(peak=100, fixed=2700, variants=16, limit=3000) == 1
    with pytest.raises(ModelError, match=r"one variant may hold 3.3 KB, and the limit is 3 KB; raise the limit"):
        find_width(peak=1000, fixed=300, variants=16, limit=3000)


def test_a_meter_counts_the_tensors_that_live() -> None:
    with torch.no_grad(), MemoryMeter() as meter:
        one = torch.zeros(1000)
        view = one.view(10, 100)
        assert meter.held == 4000
        other = one + 1
        assert meter.held == 8000
        del one, other
        assert meter.held == 4000
        del view
        assert meter.held == 0
    assert meter.peak == 8000


class Wide(nn.Module):
    """Its values before and after each operation are of different sizes, and a skip lives long."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 16, 3, padding=1)
        self.act = nn.ReLU(inplace=True)
        self.second = nn.Conv2d(16, 8, 3, padding=1)
        self.last = nn.Conv2d(24, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skip = self.act(self.first(x))
        return torch.tanh(self.last(torch.cat((skip, self.second(skip)), 1)))


@pytest.mark.parametrize("memory", ["3MB", "5MB", "12MB"])
@pytest.mark.parametrize("front_end", ["symbolic", "observed"])
def test_a_study_never_holds_more_than_its_memory(memory: str, front_end: str) -> None:
    torch.manual_seed(0)
    model, image = Wide().eval(), torch.rand(1, 3, 40, 40)
    free = surgery.ablate(model, image, at="first | second", each="channel", front_end=front_end, top=2)  # type: ignore[arg-type]
    with MemoryMeter() as meter:
        study = surgery.ablate(
            model,
            image,
            at="first | second",
            each="channel",
            memory=memory,
            front_end=front_end,  # type: ignore[arg-type]
            top=2,
        )
    assert 0 < meter.peak <= parse_memory(memory)
    for row, other in zip(study.rows, free.rows, strict=True):
        assert row.unit.label == other.unit.label
        assert row.effect.mean_abs == pytest.approx(other.effect.mean_abs, rel=1e-4)


def test_a_study_that_needs_more_than_its_memory_is_refused_in_one_line() -> None:
    with pytest.raises(ModelError, match=r"one variant may hold .* and the limit is 100 KB; raise the limit"):
        surgery.ablate(Wide().eval(), torch.rand(1, 3, 40, 40), at="first", memory="100KB")
