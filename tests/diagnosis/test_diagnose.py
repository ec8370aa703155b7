"""Planted defects are named at the operation where they were planted, and healthy layers are not."""

from __future__ import annotations

import copy
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

import surgery
from surgery import path
from surgery.data import inputs
from surgery.diagnosis import Diagnosis
from surgery.errors import MeasureError, SelectionError

FILES = [str(file) for file in inputs()]
TWO = FILES[:2]
"""As few as show what differs between images."""
KNOWN = {
    ("up8.norm", "mode-gap"),
    *((f"up{number}.deconv", "checkerboard") for number in (5, 4, 3)),
}
"""What the shipped model has: a norm of four values, and checkerboards that its last layers remove."""


@pytest.fixture(scope="module")
def facades() -> nn.Module:
    return surgery.load_model("facades").eval()


def roots(diagnosis: Diagnosis) -> set[tuple[str, str]]:
    """The operations and measures of the findings that follow from no other."""
    return {(each.operation.path, each.measure) for each in diagnosis.findings if each.follows is None}


def diagnose(model: nn.Module, **options: Any) -> Diagnosis:
    return surgery.diagnose(model, options.pop("images", TWO), size=256, **options)


def replaced(model: nn.Module, at: str, module: nn.Module) -> nn.Module:
    return surgery.replace(surgery.trace(model, torch.zeros(1, 3, 256, 256)), path(at), module)


def test_the_shipped_model_has_a_checkerboard_inside_and_none_in_its_output(facades: nn.Module) -> None:
    diagnosis = diagnose(facades, images=FILES)
    assert roots(diagnosis) == KNOWN
    begins, *others = (each for each in diagnosis.findings if each.measure == "checkerboard")
    assert begins.text == (
        "checkerboard begins at up5.deconv: 0.3 of the variance in channel 32, 0.061 in down5.act of the same size"
    )
    assert others[0].text.startswith("checkerboard is added at up4.deconv: 0.64 of the variance in channel 13, ")
    output = diagnosis.row("up1.tanh", "checkerboard")
    assert output is not None
    assert output.number < 0.005
    assert [each.is_first for each in (begins, *others)] == [True, False, False]


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        ("up2.deconv = zero:channels=0-1", ("up2.deconv'", "dead", (0, 1))),
        ("down3.norm = zero:channels=5,9", ("down3.norm'", "dead", (5, 9))),
        ("down1.conv = mean:channels=3", ("down1.conv'", "constant", (3,))),
        ("up4.norm = mean:channels=2-3", ("up4.norm'", "constant", (2, 3))),
        ("up1.deconv = scale:by=60", ("up1.tanh", "saturated", (0, 1, 2))),
    ],
)
def test_a_planted_defect_is_the_one_new_finding(facades: nn.Module, edit: str, expected: tuple[Any, ...]) -> None:
    diagnosis = diagnose(facades, edits=[edit])
    assert roots(diagnosis) - KNOWN == {expected[:2]}
    (finding,) = (each for each in diagnosis.findings if (each.operation.path, each.measure) == expected[:2])
    assert tuple(sorted(finding.channels)) == expected[2]
    assert finding.severity == "warning"


def test_a_bad_kernel_is_named_at_its_transposed_convolution(facades: nn.Module) -> None:
    module = copy.deepcopy(facades.get_submodule("up2.deconv"))
    with torch.no_grad():
        module.weight[:, :, ::2, ::2] *= 3  # type: ignore[index, operator]
    diagnosis = diagnose(replaced(facades, "up2.deconv", module))
    assert roots(diagnosis) - KNOWN == {("up2.deconv", "checkerboard")}
    healthy = diagnose(facades, at="up2.deconv", measures=["overlap"])
    before, after = (each.row("up2.deconv", "overlap") for each in (healthy, diagnosis))
    assert before is not None
    assert after is not None
    assert after.numbers.mean() > 1.2 * before.numbers.mean()


def test_a_periodic_pattern_is_found_in_the_last_layer_where_its_sign_goes_with_the_content(facades: nn.Module) -> None:
    known = {(f"up{number}.deconv", "periodic") for number in (5, 4, 3, 2)}
    module = copy.deepcopy(facades.get_submodule("up1.deconv"))
    with torch.no_grad():
        module.weight[:, :, ::2, ::2] *= 3  # type: ignore[index, operator]
    assert roots(diagnose(facades, measures="periodic")) == known
    diagnosis = diagnose(replaced(facades, "up1.deconv", module), measures="periodic")
    assert roots(diagnosis) == known | {("up1.deconv", "periodic")}
    assert [each.is_first for each in diagnosis.findings] == [True, False, False, False, False]
    assert diagnosis.findings[-1].text.startswith("a periodic pattern is added at up1.deconv: 0.")


class _AlwaysTheSame:
    """An edit that puts one and the same noise in place of every image's values."""

    def __call__(self, values: Tensor, /) -> Tensor:
        noise = torch.randn(values.shape[1:], generator=torch.Generator().manual_seed(0))
        return noise.to(values).expand_as(values)


def test_a_generator_that_ignores_its_input_is_named_where_it_is_lost(facades: nn.Module) -> None:
    diagnosis = diagnose(facades, edits=[(path("down1.conv"), _AlwaysTheSame())])
    assert roots(diagnosis) == {("down1.conv'", "similarity")}
    finding = diagnosis.findings[0]
    assert finding.severity == "severe"
    assert finding.compared_with == "input"
    assert finding.number == pytest.approx(1, abs=1e-5)
    assert finding.text.startswith("down1.conv' ignores the input: its maps correlate by 1 between images, 0.3")
    assert diagnosis.lines()[1].endswith("findings after down1.conv' may follow from it")


def test_a_branch_that_ignores_the_input_takes_no_blame_for_what_a_skip_brings_back(facades: nn.Module) -> None:
    diagnosis = diagnose(facades, edits=[(path("down6.conv"), _AlwaysTheSame())])
    found = roots(diagnosis)
    assert ("down6.conv'", "similarity") in found
    assert {each for each in KNOWN if each[1] == "checkerboard"} <= found


class _Dropout(nn.Module):
    """A module whose output has a dropout in every mode."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(self.module(x), 0.5, training=True)


def test_the_noise_of_a_dropout_is_named_where_it_begins(facades: nn.Module) -> None:
    module = _Dropout(facades.get_submodule("up3.norm"))
    diagnosis = diagnose(replaced(facades, "up3.norm", module))
    (found,) = roots(diagnosis) - KNOWN
    assert found == ("up3.norm", "noise")  # a replaced module is one operation
    finding = next(each for each in diagnosis.findings if each.measure == "noise")
    assert (finding.severity, finding.is_first) == ("note", True)
    assert 0.4 < finding.number < 0.6
    assert "the model draws random numbers, from the seed 0" in diagnosis.notes


def test_train_mode_has_its_own_statistics_and_the_noise_of_its_dropouts(facades: nn.Module) -> None:
    diagnosis = diagnose(facades, images=FILES, mode="train")
    assert roots(diagnosis) == {("up7.dropout", "noise")} | {each for each in KNOWN if each[1] == "checkerboard"}
    output = diagnosis.row("up1.tanh", "noise")
    assert output is not None
    assert output.number < 0.02


def test_values_that_are_not_finite_are_named_where_they_begin(facades: nn.Module) -> None:
    diagnosis = diagnose(facades, edits=[(path("up5.norm"), lambda values: values / 0)])
    healthy = {("up5.deconv", "checkerboard")}  # the one that is before it
    assert roots(diagnosis) == healthy | {("up5.norm'", "not-finite")}
    finding = next(each for each in diagnosis.findings if each.measure == "not-finite")
    assert finding.severity == "severe"
    assert len(finding.channels) == 64


def test_a_healthy_resnet18_has_no_finding() -> None:
    torchvision = pytest.importorskip("torchvision")
    torch.manual_seed(0)
    model = torchvision.models.resnet18().train()
    batch = torch.cat([surgery.load_image(file, size=96) for file in FILES])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        F.cross_entropy(model(batch), torch.arange(len(batch))).backward()
        optimizer.step()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 1.0  # the running statistics of trained networks have long forgotten their first values
    with torch.no_grad():
        model(batch)
    diagnosis = surgery.diagnose(model.eval(), batch)
    assert diagnosis.findings == ()
    assert "no findings in 69 operations, 4 images" in repr(diagnosis)


class Small(nn.Module):
    """A network without a fault: noise through a convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.conv(x))


@pytest.fixture
def small() -> nn.Module:
    torch.manual_seed(0)
    return Small().eval()


def noise(images: int, size: int = 16) -> Tensor:
    return torch.randn(images, 3, size, size, generator=torch.Generator().manual_seed(1))


def test_numbers_are_means_over_images_of_what_measures_say(small: nn.Module) -> None:
    batch = noise(3)
    diagnosis = surgery.diagnose(small, batch, measures=["sparsity", "similarity", "drift"])
    expected = torch.relu(small.conv(batch)).detach()  # type: ignore[operator]
    row = diagnosis.row("relu", "sparsity")
    assert row is not None
    assert row.numbers == pytest.approx((expected == 0).double().mean((0, 2, 3)).numpy())
    flat = expected.flatten(2).double()
    pairs = [np.corrcoef(flat[[a, b], 0].numpy())[0, 1] for a, b in ((0, 1), (0, 2), (1, 2))]
    similar = diagnosis.row("relu", "similarity")
    assert similar is not None
    assert similar.numbers[0] == pytest.approx(np.mean(pairs), abs=1e-5)
    ranges = [float(each.max() - each.min()) for each in expected]
    drift = diagnosis.row("relu", "drift")
    assert drift is not None
    assert drift.number == pytest.approx(max(ranges) / min(ranges), rel=1e-5)
    assert {row.measure for row in diagnosis} == {"sparsity", "similarity", "drift"}
    assert len(diagnosis.records()) == len(diagnosis) == len(list(diagnosis))


def test_one_image_tells_nothing_of_what_differs_between_images(small: nn.Module) -> None:
    diagnosis = surgery.diagnose(small, noise(1))
    assert not {"similarity", "drift"} & {row.measure for row in diagnosis}
    assert "one image tells nothing of similarity and drift between images; give several" in diagnosis.notes


def test_images_that_are_all_alike_blame_no_operation(small: nn.Module) -> None:
    diagnosis = surgery.diagnose(small, noise(1).expand(3, -1, -1, -1).clone())
    assert not [each for each in diagnosis.findings if each.measure == "similarity"]


def test_a_threshold_can_be_set_and_switched_off(small: nn.Module) -> None:
    batch = noise(2)
    found = surgery.diagnose(small, batch, measures=["sparsity"], thresholds={"sparsity": 0.1}).findings
    assert [(each.operation.path, each.measure) for each in found] == [("relu", "sparsity")]
    assert found[0].text.startswith("sparsity is 0.")
    assert surgery.diagnose(small, batch, measures=["dead"], edits=["relu = zero"]).findings
    quiet = surgery.diagnose(small, batch, measures=["dead"], edits=["relu = zero"], thresholds={"dead": None})
    assert quiet.findings == ()


def test_a_convolution_follows_a_shift_and_a_pattern_at_a_fixed_place_does_not(small: nn.Module) -> None:
    class Fixed(Small):
        def forward(self, x: Tensor) -> Tensor:
            ramp = torch.linspace(-1, 1, x.shape[3])
            return torch.cat([F.max_pool2d(self.conv(x), 2), (x + ramp)[..., ::2, ::2]], 1)

    diagnosis = surgery.diagnose(Fixed().eval(), noise(2, 64), measures=["equivariance"])
    levels = {row.operation.path: row.number for row in diagnosis}
    assert levels["conv"] > 100
    assert levels["max_pool2d"] > 100
    assert levels["add"] < 40
    assert surgery.diagnose(small, noise(2, 64), measures=["equivariance"]).row("relu", "equivariance") is not None


def test_a_measure_of_the_user_is_a_column_of_its_own(small: nn.Module) -> None:
    def loudness(maps: Tensor) -> Tensor:
        return maps.double().abs().mean((2, 3))

    diagnosis = surgery.diagnose(small, noise(2), measures=[loudness])
    (name,) = diagnosis.readings
    assert name.endswith("loudness")
    assert {row.operation.path for row in diagnosis} == {"conv", "relu"}


def test_an_observed_model_is_diagnosed_too() -> None:
    class Loop(Small):
        def forward(self, x: Tensor) -> Tensor:
            x = self.conv(x)
            return x * 0 if float(x.mean()) < 100 else x

    torch.manual_seed(0)
    diagnosis = surgery.diagnose(Loop().eval(), noise(2))
    assert roots(diagnosis) == {("mul", "dead")}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"measures": []}, MeasureError, "a diagnosis needs a measure, such as 'checkerboard'"),
        (
            {"thresholds": {"ded": 1}},
            MeasureError,
            "there is no measure 'ded' .*did you mean 'dead'",
        ),
        ({"thresholds": {"dead": "x"}}, MeasureError, "the threshold of dead is a finite number or None, not 'x'"),
        ({"at": "nothing*"}, SelectionError, "nothing"),
        ({"measures": [lambda maps: maps]}, MeasureError, r"has to return \(1, 4\) or \(1, 1\), not \(1, 4, 16, 16\)"),
    ],
)
def test_what_can_t_be_diagnosed_is_one_line(small: nn.Module, options: Any, error: Any, message: str) -> None:
    with pytest.raises(error, match=message) as caught:
        surgery.diagnose(small, noise(2), **options)
    assert "\n" not in str(caught.value)


def test_a_measure_that_compares_images_asks_for_more_than_one(small: nn.Module) -> None:
    with pytest.raises(MeasureError, match=r"^similarity compares images, and there is one; give two or more$"):
        surgery.diagnose(small, noise(1), measures=["dead", "similarity"])


def test_the_folder_has_plots_a_sheet_tables_and_a_manifest(tmp_path: Path, facades: nn.Module) -> None:
    diagnosis = diagnose(facades, images=FILES, at="up4.* | up5.*", out=tmp_path / "out")
    names = {file.relative_to(tmp_path / "out").as_posix() for file in (tmp_path / "out").rglob("*") if file.is_file()}
    assert {"worst-channels.png", "diagnosis.json", "diagnosis.csv", "manifest.json"} <= names
    assert {"plots/checkerboard.svg", "plots/checkerboard.png", "plots/mode-gap.svg"} <= names
    content = json.loads((tmp_path / "out" / "diagnosis.json").read_text())
    assert [each["text"] for each in content["findings"]] == [each.text for each in diagnosis.findings]
    with (tmp_path / "out" / "diagnosis.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["path"], row["measure"]) for row in rows] == [(row.operation.path, row.measure) for row in diagnosis]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["settings"]["study"] == "diagnosis"
    assert set(manifest["files"]) == names - {"manifest.json"}
    assert surgery.verify(tmp_path / "out").sound
    sheet = np.asarray(Image.open(tmp_path / "out" / "worst-channels.png"))
    assert sheet.shape[1] == 1302
    html = diagnosis._repr_html_()
    assert "checkerboard begins at up5.deconv" in html
    assert "0.635 !" in html or "0.64 !" in html
