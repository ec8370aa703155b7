"""The command line as its users meet it: run in this process, and where the process matters, in one of its own."""

from __future__ import annotations

import ctypes
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

import surgery
from surgery.cli import progress
from surgery.data import inputs

EMBER = Path(__file__).parents[2] / "examples" / "ember.py"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    file = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)).save(file)
    return file


def test_without_arguments_the_shipped_model_is_run_on_the_shipped_input(run: Any, tmp_path: Path) -> None:
    result = run("extract")
    assert (result.code, result.err) == (0, "")
    folder = tmp_path / "activations"
    content = json.loads((folder / "manifest.json").read_text())
    pictures = sorted(path.name for path in (folder / "facade-1").glob("[0-9]*.png"))
    assert len(pictures) == 57
    assert [pictures[0], pictures[1], pictures[-1]] == ["000-input.png", "001-down1.conv.png", "056-output.png"]
    assert (folder / "facade-1" / "sheet.png").is_file()
    assert content["model"]["source"] == "facades"
    assert "up1.tanh" in result.out
    assert "activations/  1 image, 60 files" in result.out
    with Image.open(folder / "facade-1" / "000-input.png") as shown, Image.open(inputs()[0]) as given:
        assert np.array_equal(np.asarray(shown), np.asarray(given.convert("RGB")))


def test_a_checkpoint_and_images_with_everything_chosen(
    run: Any, checkpoint: Path, photo: Path, tmp_path: Path
) -> None:
    result = run(
        *("extract", checkpoint, photo, "--at", "down* & op:conv2d", "--at", "op:cat", "--colormap", "magma"),
        *("--size", "64x32", "--normalizer", "percentile:low=2,high=98", "--tiler", "grid:columns=2", "--sink", "png"),
        *("--sink", "npz", "--mode", "train", "--seed", "3", "--stats", "--no-output", "--batch-size", "2", "-o", "x"),
    )
    assert result.code == 0, result.err
    content = json.loads((tmp_path / "x" / "manifest.json").read_text())
    assert content["settings"]["mode"] == "train"
    assert content["recipe"]["colormap"] == "magma"
    assert [operation["kind"] for operation in content["operations"]] == ["input", *["conv2d"] * 5, *["cat"] * 4]
    assert content["operations"][1]["tensors"][0]["shape"] == [1, 2, 32, 16]
    assert "mean" in content["operations"][1]
    values = np.load(tmp_path / "x" / "photo" / "activations.npz")
    assert set(values) == {operation["path"] for operation in content["operations"]}


def test_the_range_is_that_of_the_images(run: Any, photo: Path, tmp_path: Path) -> None:
    class Same(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.add(0)

    sys.modules["nets_for_the_range"] = type(sys)("nets_for_the_range")
    sys.modules["nets_for_the_range"].Same = Same  # type: ignore[attr-defined]
    assert run("extract", "nets_for_the_range:Same", photo, "--range=-3,5", "--sink", "npz").code == 0
    values = np.load(tmp_path / "activations" / "photo" / "activations.npz")["add"]
    with Image.open(photo) as image:
        assert np.allclose(values, np.asarray(image).transpose(2, 0, 1) / 255 * 8 - 3, atol=1e-5)


def test_a_plugin_file_colors_the_pictures(run: Any, tmp_path: Path) -> None:
    assert run("extract", "--plugin", EMBER, "--colormap", "ember", "--at", "down1.conv", "--sink", "png").code == 0
    with Image.open(tmp_path / "activations" / "facade-1" / "001-down1.conv.png") as image:
        palette = image.getpalette()
    assert palette is not None
    assert (palette[:3], palette[750:753]) == ([0, 0, 0], [255, 255, 255])


def test_images_that_fail_are_named_and_the_exit_code_is_1(run: Any, checkpoint: Path, photo: Path) -> None:
    result = run("extract", checkpoint, photo, "gone.png", "--size", "64", "--at", "op:cat")
    assert result.code == 1
    assert result.err == "surgery: there is no image gone.png\nsurgery: 1 of 2 images failed\n"
    assert "activations/  1 image, 8 files" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["extract", "unet_265"], "no model is called 'unet_265'; did you mean 'unet_256'?"),
        (["extract", "gone.pth"], "there is no file gone.pth"),
        (["extract", "--at", "nowhere"], "'nowhere' matches none of 55 operations"),
        (["extract", "--at", "op:cot"], "did you mean 'op:cat'?"),
        (["extract", "--at", "(down1"], "lacks a closing parenthesis"),
        (["extract", "--normalizer", "minmix"], "did you mean 'minmax'?"),
        (["extract", "--tiler", "grid:colums=2"], "did you mean 'columns'?"),
        (["extract", "--colormap", "virdis"], "did you mean 'viridis'?"),
        (["extract", "--sink", "pgn"], "did you mean 'png'?"),
        (["extract", "--device", "warp"], "there is no device 'warp'; here there is cpu"),
        (["extract", "--plugin", "gone.py"], "there is no plugin file gone.py"),
        (["extract", "--leaf", "Nothing"], "neither the path nor the class of a module"),
        (["extract", "-o", "/proc/nowhere"], "can't write to /proc/nowhere"),
        (["extract", "facades", "*.jpg"], "no file matches *.jpg"),
        (["inspect", "--svg", "/proc/nowhere.svg"], "can't write /proc/nowhere.svg"),
        (
            ["inspect", "torchvision/retinanet_resnet50_fpn", "--front-end", "symbolic"],
            "RetinaNet can't be traced: torchvision/models/detection/",
        ),
        (["inspect", "--front-end", "symbolical"], "there is no front end 'symbolical'; there are auto, symbolic"),
    ],
)
def test_what_a_user_can_do_wrong_is_one_clear_line(
    run: Any, tmp_path: Path, arguments: list[str], message: str
) -> None:
    result = run(*arguments)
    assert result.code == 1
    assert result.err.startswith("surgery: ")
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "activations").exists()


@pytest.mark.parametrize(
    "arguments", [["--size", "big"], ["--size", "1x2x3"], ["--range", "1"], ["--range", "2,1"], ["--batch-size", "0"]]
)
def test_an_option_that_can_not_be_read_is_a_usage_error(run: Any, arguments: list[str]) -> None:
    result = run("extract", *arguments)
    assert result.code == 2
    assert arguments[0] in result.err


def test_ctrl_c_says_what_is_there(run: Any, photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Any, progress: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(progress.ProgressBar, "advance", stop)
    result = run("extract", "facades", photo, photo, "--size", "256", "--at", "op:cat")
    assert result.code == 1
    assert "interrupted: the finished images are complete" in result.out


def test_inspect_prints_a_plain_tree_where_it_is_piped(run: Any, checkpoint: Path) -> None:
    result = run("inspect", checkpoint, "--at", "op:cat", "--size", "32")
    assert result.code == 0
    assert "\x1b" not in result.out
    assert result.out.count("◉ ActivationExtractor") == 4
    assert "31 operations, 4 extracted" in result.out
    assert "1×32×2×2" in result.out
    assert max(map(len, result.out.splitlines())) <= 120


def test_inspect_without_a_size_that_fits_shows_no_shapes_and_says_why(run: Any) -> None:
    result = run("inspect", "--size", "100")
    assert result.code == 0
    assert "shown without shapes" in result.err
    assert "×" not in result.out


def test_inspect_for_machines_lists_what_python_lists(run: Any) -> None:
    listed = json.loads(run("inspect", "--json", "--at", "op:cat").out)
    known = surgery.operations(surgery.trace(surgery.load_model("facades").eval()))
    assert [(entry["path"], entry["kind"]) for entry in listed] == [(o.path, o.kind) for o in known]
    assert sum(entry["extracted"] for entry in listed) == 7
    assert listed[0]["tensors"] == [{"key": "", "shape": [1, 8, 128, 128], "dtype": "float32"}]


def test_inspect_prints_and_saves_code_with_the_extractors_marked(run: Any, tmp_path: Path) -> None:
    result = run("inspect", "--code", "--at", "down2.conv", "--svg", "code.svg", "--html", "code.html")
    (marked,) = [line for line in result.out.splitlines() if "◉" in line]
    assert "self.extractors.down2_conv(down2_conv)" in marked
    for name in ("code.svg", "code.html"):
        text = (tmp_path / name).read_text()
        assert "◉" in text
        assert not [part for part in ("src=", "url(http", "@import", "<link", "<script") if part in text]


def test_plugins_lists_what_is_offered_by_whom(run: Any) -> None:
    result = run("plugins", "--plugin", EMBER)
    assert result.code == 0
    assert "minmax, percentile, symmetric, fixed" in result.out
    assert "ember.py" in result.out
    listed = json.loads(run("plugins", "--json", "--plugin", EMBER).out)
    assert [entry["name"] for entry in listed] == ["surgery", "ember.py"]
    assert listed[1]["colormaps"] == ["ember"]
    assert listed[0]["sinks"] == ["png", "sheet", "page", "npz", "safetensors", "stats"]


def shell(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("arguments", [["--help"], ["extract", "--help"], ["--version"], ["plugins"]])
def test_what_only_prints_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        f"import sys; sys.argv = ['surgery', *{arguments}]\nfrom surgery.cli import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print([name for name in ('torch', 'torchvision', 'matplotlib') if name in sys.modules])"
    )
    result = shell(sys.executable, "-c", code)
    assert result.stdout.endswith("[]\n"), result.stdout + result.stderr


def test_it_is_installed_as_a_command_and_as_a_module() -> None:
    command = Path(sys.executable).with_name("surgery")
    for arguments in ([str(command)], [sys.executable, "-m", "surgery"]):
        result = shell(*arguments, "--version")
        assert result.returncode == 0
        assert result.stdout.startswith(f"torch-surgery {surgery.__version__}")


@pytest.mark.parametrize(
    ("built", "said"), [(True, ""), (False, ", without its compiled kernels: drawing takes longer")]
)
def test_the_version_says_where_nothing_was_compiled(
    run: Any, built: bool, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surgery.cli.app.find_spec", lambda name: name if built else None)
    assert run("--version").out == f"torch-surgery {surgery.__version__}{said}\n"


def spoil(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """Have a model traced with a difference at one of its operations."""

    original = surgery.trace  # looked up before it is replaced: a package of lazy names would keep what it finds

    def trace(*arguments: Any, **options: Any) -> Any:
        traced = original(*arguments, **options)
        cat = next(node for node in traced.graph.nodes if node.name == "up2_cat")
        cat.args = (list(reversed(cat.args[0])), *cat.args[1:])
        traced.recompile()
        return traced

    monkeypatch.setattr(f"surgery.{home}.trace", trace)


def test_check_certifies_the_shipped_model(run: Any) -> None:
    result = run("check", "--size", "256")
    assert (result.code, result.err) == (0, "")
    assert "UNet: 55 operations, 55 extracted" in result.out
    assert result.out.rstrip().endswith("the same, bit for bit")
    for what in ("output", "values", "random numbers", "buffers", "modes", "gradients"):
        (row,) = [line for line in result.out.splitlines() if line.startswith(what)]
        assert "✓" in row
        assert "✗" not in row


def test_check_prints_for_machines(run: Any, checkpoint: Path) -> None:
    result = run("check", checkpoint, "--at", "op:cat", "--size", "32", "--json")
    assert result.code == 0
    found = json.loads(result.out)
    assert (found["model"], found["same"], found["difference"]) == ("UNet", True, "")
    assert found["extracted"] == 4
    assert {c["mode"] for c in found["comparisons"]} == {"eval", "train", ""}
    assert {"output", "values", "buffers", "modes", "gradients", "parameters", "the original"} <= {
        c["what"] for c in found["comparisons"]
    }
    assert {c["case"] for c in found["comparisons"]} == {"example", "again", "batch 2", "32x64", ""}


def test_check_names_the_first_operation_that_differs_and_exits_with_1(
    run: Any, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, "tracing")
    result = run("check", checkpoint, "--size", "32")
    assert result.code == 1
    assert "not the same: values (eval, example): up2.cat (" in result.out
    result = run("check", checkpoint, "--size", "32", "--json")
    assert result.code == 1
    found = json.loads(result.out)
    assert not found["same"]
    assert found["difference"].startswith("values (eval, example): up2.cat (")


def test_extract_records_the_check_and_no_check_turns_it_off(run: Any, checkpoint: Path, photo: Path) -> None:
    common = ("extract", checkpoint, photo, "--at", "op:cat", "--size", "32", "-o")
    assert run(*common, "checked").code == 0
    assert run(*common, "unchecked", "--no-check").code == 0
    checked, unchecked = (json.loads(Path(n, "manifest.json").read_text()) for n in ("checked", "unchecked"))
    assert checked["check"] == "the output of the first batch is the original model's, bit for bit"
    assert "check" not in unchecked


def test_extract_stops_at_an_output_that_is_not_the_originals(
    run: Any, checkpoint: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spoil(monkeypatch, "extraction.model_preparation")
    common = ("extract", checkpoint, photo, "--at", "op:cat", "--size", "32", "-o")
    result = run(*common, "checked")
    assert result.code == 1
    assert "the rewritten model does not return the output of the original: the values differ" in result.err
    assert "`surgery check` shows the first operation that differs" in result.err
    assert run(*common, "unchecked", "--no-check").code == 0


GLIBC = hasattr(ctypes.CDLL(None), "malloc_stats") if sys.platform == "linux" else False


@pytest.mark.skipif(not GLIBC, reason="of glibc alone")
@pytest.mark.parametrize(
    ("settle", "wanted", "arenas"),
    [
        ("", {}, 2),
        ("surgery.cli.process_settings.tune_process()", {}, 1),
        ("surgery.cli.process_settings.tune_process()", {"MALLOC_ARENA_MAX": "2"}, 2),
    ],
    ids=["a library", "the command line", "as the user wants"],
)
def test_threads_of_the_command_line_share_one_store_of_memory(
    settle: str, wanted: dict[str, str], arenas: int
) -> None:
    code = f"""
import ctypes, threading, surgery.cli.process_settings
{settle}
kept = []
thread = threading.Thread(target=lambda: kept.append(bytes(100_000)))
thread.start(), thread.join()
ctypes.CDLL(None).malloc_stats()
"""
    environment = {name: value for name, value in os.environ.items() if name != "MALLOC_ARENA_MAX"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment | wanted, capture_output=True, text=True, check=True
    )
    assert ran.stderr.count("Arena ") == arenas


@pytest.mark.parametrize("arguments", [("extract", "--side", "up"), ("plugins", "new", "x", "--kind", "up")])
def test_a_choice_that_there_is_not_is_named_beside_those_that_there_are(arguments: tuple[str, ...], run: Any) -> None:
    result = run(*arguments)
    assert result.code == 2
    assert re.fullmatch(
        r"surgery: invalid value for '--\w+': 'up' is not one of '.*'; `.*` lists the options\n", result.err
    )
