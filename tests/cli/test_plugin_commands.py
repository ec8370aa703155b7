"""The way of a plugin's author: begin one, check it, look at it, hand it on."""

from __future__ import annotations

import json
import re
import runpy
import shlex
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image

from surgery.cli.terminal_pictures import SHADES, TerminalPicture
from surgery.drawing.palettes import make_palette
from surgery.plugins.object_kinds import KINDS
from surgery.plugins.scaffold import TEMPLATES
from surgery.testing import check_plugin
from tests.broken import BROKEN, offering
from tests.cli.test_graph_view import printed
from tests.distributions import Site

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]


def commands(out: str) -> dict[str, list[str]]:
    """The commands that `plugins new` advises, by what they are for."""
    found: dict[str, list[str]] = {}
    for line in out.splitlines():
        if line.startswith("  "):
            step, _, command = line[2:].partition("  ")
            found.setdefault(step or list(found)[-1], []).append(command.strip())
    return found


def run_words(run: Any) -> Callable[[str], tuple[int, str, str]]:
    """Return a function that runs a command line of `surgery` in this process, and one of `python` in a shell."""

    def execute(command: str) -> tuple[int, str, str]:
        name, *words = shlex.split(command)
        if name != "surgery":
            return shell(command)
        result = run(*words)
        return result.code, result.out, result.err

    return execute


def shell(command: str) -> tuple[int, str, str]:
    """Run a command line with the `surgery` and the `python` that are tested. Return the exit code and the output."""
    run = {"surgery": f"{sys.executable} -m surgery", "python": sys.executable}
    name, _, rest = command.partition(" ")
    command = f"{run.get(name, name)} {rest}"
    words = ["/bin/bash", "-c", command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120)
    return done.returncode, done.stdout, done.stderr


def read_pixels(file: Path) -> np.ndarray:
    with Image.open(file) as image:
        return np.asarray(image)


def what_was_used(kind: str, name: str, folder: Path) -> bool:
    """Whether a run's results show that a plugin's thing was used."""
    manifest = json.loads((folder / "manifest.json").read_text())
    recipe = manifest["recipe"]
    found: dict[str, Callable[[], bool]] = {
        "transform": lambda: "GlowTransform" in recipe["transforms"],
        "normalizer": lambda: "GlowNormalizer" in recipe["normalizer"],
        "tiler": lambda: "GlowTiler" in recipe["tiler"],
        "colormap": lambda: "darkred" in recipe["colormap"],
        "edit": lambda: manifest["settings"]["edits"] == [f"down1.conv = {name}"],
        "measure": lambda: list(manifest["settings"]["measures"]) == [name],
        "sink": lambda: (folder / "facade-1" / f"{name}.csv").read_text().startswith("operation,min,max\ninput,-1"),
        "model": lambda: manifest["model"]["source"] == name,
        "checkpoint": lambda: manifest["operations"][1]["path"] == name,
        "reader": lambda: read_pixels(folder / "checks" / "000-input.png").mean() == 127.5,
        "engine": lambda: len(manifest["operations"]) == 57,
        "watcher": lambda: len(manifest["operations"]) == 57,
    }
    return found[kind]()


def without_notes(text: str) -> str:
    """What went to stderr, but for the note that a model begun from the template has random weights."""
    return "".join(line for line in text.splitlines(True) if "is untrained: its weights are random" not in line)


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_new_file_works_at_once_by_the_commands_that_are_printed(run: Any, tmp_path: Path, kind: str) -> None:
    name = f"glow_{kind}"
    begun = run("plugins", "new", name, "--kind", kind)
    assert (begun.code, begun.err) == (0, "")
    steps = commands(begun.out)
    assert begun.out.startswith(f"{name}.py\n")
    # One kind in processes of its own, as the commands are printed; the others here, since each would import torch.
    execute = shell if kind == "colormap" else run_words(run)
    for command in steps["try"]:
        code, out, err = execute(command)
        assert (code, without_notes(err)) == (0, ""), out + err
    assert what_was_used(kind, name, tmp_path / name)
    assert (f"{name}: operations: 55, images: 1" in out) == (kind == "watcher")
    checked = run(*steps["check"][0].split()[1:])
    assert (checked.code, checked.err) == (0, "")
    what = f"{name}.py" if kind == "watcher" else name
    assert checked.out == f"{kind} {what}  ok\n1 thing keeps its promises\n"
    if kind != "watcher":
        shown = run(*steps["show"][0].split()[1:])
        assert (shown.code, shown.err) == (0, "")
        assert shown.out.startswith(f"{name}  {kind}  {name}.py\n")


@pytest.mark.parametrize("kind", TEMPLATES)
def test_a_new_distribution_is_found_by_its_entry_point_and_its_test_passes(
    run: Any, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    name, module = f"glow_{kind}", f"surgery_glow_{kind}"
    begun = run("plugins", "new", name, "--kind", kind, "--package", "-o", "mine")
    assert (begun.code, begun.err) == (0, "")
    folder = tmp_path / "mine" / f"surgery-glow-{kind}"
    files = [str(file.relative_to(folder)) for file in sorted(folder.rglob("*")) if file.is_file()]
    assert files == ["README.md", "pyproject.toml", f"{module}/__init__.py", f"tests/test_{name}.py"]
    assert [line.strip() for line in begun.out.splitlines()[:4]] == [f"mine/{folder.name}/{file}" for file in files]
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == folder.name
    assert project["entry-points"].get("surgery.watchers") == ({name: module} if kind == "watcher" else None)
    site.install(project["name"], None, entry=project["entry-points"]["surgery"][name], watchers=kind == "watcher")
    monkeypatch.syspath_prepend(str(folder))
    runpy.run_path(str(folder / "tests" / f"test_{name}.py"))["test_it_keeps_its_contract"]()
    assert commands(begun.out)["check"] == [f"surgery plugins check mine/{folder.name}"]
    for what in (project["name"], f"mine/{folder.name}"):
        checked = run("plugins", "check", what)
        assert (checked.code, checked.err) == (0, ""), checked.out
        assert checked.out.endswith("  ok\n1 thing keeps its promises\n")
    readme = (folder / "README.md").read_text()
    advised = re.findall(r"^ {4}(surgery extract.*)$", readme, re.MULTILINE)
    assert advised == commands(begun.out)["try"][-1:]
    if kind not in ("reader", "checkpoint"):
        used = run(*shlex.split(advised[0])[1:])
        assert (used.code, without_notes(used.err)) == (0, ""), used.err
        assert what_was_used(kind, name, tmp_path / name)


def test_a_new_distribution_is_built_and_its_test_run_as_its_readme_says(run: Any, tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    for kind in ("colormap", "watcher"):
        assert run("plugins", "new", f"built_{kind}", "--kind", kind, "--package").code == 0
        folder = tmp_path / f"surgery-built-{kind}"
        command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel"]
        subprocess.run(command, cwd=folder, check=True, capture_output=True)
        (wheel,) = (folder / "dist").glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(tmp_path / "site")
        info = tmp_path / "site" / f"surgery_built_{kind}-0.1.0.dist-info"
        points = (info / "entry_points.txt").read_text()
        assert f"[surgery]\nbuilt_{kind} = surgery_built_{kind}" in points
        assert ("[surgery.watchers]" in points) == (kind == "watcher")
    code = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); from surgery.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code, "plugins", "--json"], capture_output=True, text=True, check=True)
    listed = {entry["name"]: entry for entry in json.loads(done.stdout)}
    assert listed["surgery-built-colormap"]["colormaps"] == ["built_colormap"]
    assert [listed["surgery-built-watcher"][key] for key in ("version", "origin", "state")] == [
        *("0.1.0", "installed", "ready")
    ]
    tested = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)],
        env={"PYTHONPATH": f"{tmp_path / 'site'}:{ROOT}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "1 passed" in tested.stdout, tested.stdout + tested.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["my-map", "--kind", "colormap"], "'my-map' can't be a name in Python; choose another, such as my_map"),
        (["3d", "--kind", "tiler"], "'3d' can't be a name in Python; choose another, such as my_3d"),
        (["class", "--kind", "tiler"], "'class' can't be a name in Python; choose another, such as my_class"),
        (["_", "--kind", "sink"], "'_' can't be a name in Python; choose another, such as my_sink"),
        (
            ["json", "--kind", "sink"],
            "'json' would hide the Python module of that name; choose another, such",
        ),
        (["numpy", "--kind", "reader"], "'numpy' would hide the Python module of that name; "),
        (["print", "--kind", "sink"], "'print' would hide another thing of that name; choose another, such as my_"),
        (["surgery", "--kind", "model"], "'surgery' would hide another thing of that name; choose another"),
        (["grid", "--kind", "tiler"], "there is a tiler 'grid', of surgery; choose another name, such as my_grid"),
        (["there", "--kind", "tiler"], "there.py exists already; choose another name, or another folder with -o"),
        (["there", "--kind", "tiler", "--package"], "surgery-there exists already; choose another name, or another"),
        (["new", "--kind", "tiler", "-o", "there.py"], "can't write there.py/new.py: file exists"),
        (
            ["mine", "--kind", "tiler", "--plugin", "mine.py"],
            "there is a tiler 'mine', of mine.py; choose ",
        ),
    ],
)
def test_a_name_that_can_not_be_used_is_one_line_and_nothing_is_written(
    run: Any, tmp_path: Path, arguments: list[str], message: str
) -> None:
    (tmp_path / "there.py").write_text("precious")
    (tmp_path / "surgery-there").mkdir()
    (tmp_path / "mine.py").write_text(offering("tiler", "lambda levels: levels").replace("bad", "mine"))
    before = sorted(tmp_path.rglob("*"))
    result = run("plugins", "new", *arguments)
    assert result.code == 1
    assert result.err.startswith(f"surgery: {message}")
    assert result.err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.py").read_text() == "precious"


def test_a_colormap_may_have_a_name_that_cmap_knows(run: Any, tmp_path: Path) -> None:
    assert run("plugins", "new", "ember", "--kind", "colormap").code == 0
    assert (tmp_path / "ember.py").read_text() == (ROOT / "examples" / "ember.py").read_text()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("title", BROKEN)
def test_a_broken_promise_is_one_line_with_the_input_that_broke_it(run: Any, tmp_path: Path, title: str) -> None:
    text, line = BROKEN[title]
    (tmp_path / "bad.py").write_text(text)
    result = run("plugins", "check", "bad.py")
    assert result.code == 1, result.out
    assert re.search(line, result.out), result.out + result.err
    assert re.search(r"\d+ promises? (is|are) broken\n$", result.out), result.out


def test_all_that_comes_with_the_project_keeps_its_promises(run: Any) -> None:
    result = run("plugins", "check", "surgery")
    assert (result.code, result.err) == (0, "")
    *lines, last = result.out.splitlines()
    checked = [line.split()[0] for line in lines if line.endswith("  ok")]
    assert len(checked) == len(lines)
    assert set(checked) == set(KINDS) - {"colormap"}  # of which only those that are broken have a line
    assert int(last.removesuffix(" things keep their promises")) > 1500


def test_readers_are_tried_on_the_files_that_are_given(run: Any, tmp_path: Path) -> None:
    import torch

    assert run("plugins", "new", "glow", "--kind", "checkpoint").code == 0
    torch.save({"glow.weight": torch.zeros(4, 3, 3, 3), "glow.bias": torch.zeros(4)}, tmp_path / "good.pth")
    torch.save({"flow.weight": torch.zeros(4, 3, 3, 3)}, tmp_path / "other.pth")
    assert run("plugins", "check", "glow.py", "--sample", "good.pth").code == 0
    result = run("plugins", "check", "glow.py", "--sample", "good.pth", "--sample", "other.pth")
    assert result.code == 1
    assert result.out.startswith(
        "checkpoint glow  gives NoneType, not a torch.nn.Module or a LoadedNetwork, given other.pth\n"
    )
    (tmp_path / "words.txt").write_text("no numbers")
    assert run("plugins", "new", "rows", "--kind", "reader").code == 0
    result = run("plugins", "check", "rows.py", "--sample", "words.txt")
    assert result.out.startswith("reader rows  can't read words.txt: could not convert string to float: 'no'")


def test_what_a_plugin_prints_while_it_is_checked_is_kept_apart(run: Any, tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text(offering("tiler", "f", "def f(levels):", "  print('loud')", "  return levels"))
    assert run("plugins", "check", "loud.py").out == "tiler bad  ok\n1 thing keeps its promises\n"


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("gone.py", "there is no plugin file gone.py"),
        ("surgry", "no plugin is called 'surgry', and there is no such file; did you mean 'surgery'?"),
        ("gone", "no plugin is called 'gone', and there is no such file; installed are surgery"),
        ("words.txt", "words.txt is not a Python file; a plugin is a module like ember.py"),
    ],
)
def test_a_plugin_that_is_not_there_can_not_be_checked(run: Any, tmp_path: Path, what: str, message: str) -> None:
    (tmp_path / "words.txt").write_text("")
    result = run("plugins", "check", what)
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"surgery: {message}")


def test_a_whole_module_is_checked_in_a_test_of_its_author() -> None:
    module = type(sys)("mine")
    exec(offering("tiler", "lambda levels: levels[:, 0]"), vars(module))  # noqa: S102
    with pytest.raises(AssertionError, match=r"^tiler bad: gives \(3, 8, 6\) torch.uint8, not \(B, N, H, W\) uint8"):
        check_plugin(module)


SHOWN = {
    80: """\
grid  tiler  surgery 0.1.0  built in
All channels in one near-square picture, row by row, channel 0 at the top left.
  columns=none   a whole number or none  Tiles in a row; None for the number
                                         that makes the picture nearest to a
                                         square.
  gap=1          a whole number          Pixels of background between tiles.
  limit=none     a whole number or none  Draw only this many channels, from the
                                         first.
  least=16       a whole number          Smaller maps are enlarged by a whole
                                         factor, without smoothing, until their
                                         longer side has this many pixels.
  megapixels=64  a whole number          The most megapixels of a picture; more
                                         channels go into several pictures, in
                                         order.
  labels=false   true or false           Write the number of each channel above
                                         it, and draw a scale bar below all
                                         channels.
down1.conv of facades
""",
    120: """\
grid  tiler  surgery 0.1.0  built in
All channels in one near-square picture, row by row, channel 0 at the top left.
  columns=none   a whole number or none  Tiles in a row; None for the number that makes the picture nearest to a square.
  gap=1          a whole number          Pixels of background between tiles.
  limit=none     a whole number or none  Draw only this many channels, from the first.
  least=16       a whole number          Smaller maps are enlarged by a whole factor, without smoothing, until their
                                         longer side has this many pixels.
  megapixels=64  a whole number          The most megapixels of a picture; more channels go into several pictures, in
                                         order.
  labels=false   true or false           Write the number of each channel above it, and draw a scale bar below all
                                         channels.
down1.conv of facades
""",
}


@pytest.mark.parametrize("width", SHOWN)
def test_a_thing_is_shown_with_its_owner_its_options_and_a_sample(
    run: Any, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    result = run("plugins", "show", "grid")
    assert (result.code, result.err) == (0, "")
    lines = [line.rstrip() for line in result.out.splitlines()]
    text = SHOWN[width].splitlines()
    assert lines[: len(text)] == text
    others = next(number for number, line in enumerate(lines) if line.startswith("grid  measure"))
    picture = lines[len(text) : others]
    picture = picture[: len(picture) - (not picture[-1])]
    assert len(picture) == 24
    assert set("".join(picture)) <= set(SHADES)
    assert len(set("".join(picture))) > 2
    assert max(map(len, lines)) <= width


def test_options_behind_the_name_are_those_of_the_sample(run: Any, tmp_path: Path) -> None:
    sizes = []
    for text in ("grid:columns=8,gap=0", "grid:columns=2,gap=0"):
        assert run("plugins", "show", text, "-o", "grid.png").code == 0
        with Image.open("grid.png") as image:
            sizes.append(image.size)
    assert sizes == [(8 * 128, 128), (2 * 128, 4 * 128)]
    assert "columns=8" in run("plugins", "show", "grid:columns=8").out


def test_a_colormap_is_saved_as_a_bar_from_low_to_high(run: Any, tmp_path: Path) -> None:
    result = run("plugins", "show", "ember", "--plugin", ROOT / "examples" / "ember.py", "-o", "bar.png")
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("ember  colormap  ember.py")
    assert "4 colors: black, darkred, orange, white\n" in result.out
    assert result.out.endswith("bar.png  1004x64\n")
    with Image.open("bar.png") as image:
        assert np.array_equal(np.asarray(image)[0, ::4], make_palette(["black", "darkred", "orange", "white"])[:251])


@pytest.mark.parametrize("name", ["abs", "pca", "topk", "fft", "percentile", "channels", "png", "sheet", "image"])
def test_what_draws_is_shown_as_a_picture_of_more_than_one_color(run: Any, tmp_path: Path, name: str) -> None:
    assert run("plugins", "show", name, "-o", "shown.png").code == 0
    with Image.open("shown.png") as image:
        assert len(image.convert("RGB").getcolors(1 << 20) or []) > 8


def test_of_what_a_sink_writes_the_largest_picture_is_shown(run: Any, tmp_path: Path) -> None:
    result = run("plugins", "show", "png:level=9", "-o", "shown.png")
    listed = re.findall(r"^(facade-1/\S+\.png)  [\d,]+ bytes$", result.out, re.MULTILINE)
    assert [name[9:12] for name in listed] == ["000", "001", "048", "056"]
    with Image.open("shown.png") as image:  # 32 maps of 64x64, and a line between them
        assert image.size == (6 * 65 - 1, 6 * 65 - 1)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("npz", "facade-1/activations.npz  2,6"),
        ("unet_256", "UNet, 54,413,955 parameters, takes 3x256x256"),
        ("torchvision", r"a family of \d+: alexnet, "),
        ("torchvision/resnet18", "ResNet, 11,689,512 parameters, takes 3x224x224"),
        ("tensor", r"reads \.npy, \.npz, \.safetensors, \.pt, \.pth"),
        ("pix2pix", "Generators and discriminators of pix2pix"),
    ],
)
def test_what_has_no_picture_is_shown_in_words(run: Any, tmp_path: Path, name: str, line: str) -> None:
    result = run("plugins", "show", name, "-o", "shown.png")
    assert re.search(line, result.out), result.out
    assert result.code == 1
    assert re.fullmatch(rf"surgery: {name} has no picture to save; it is an? \w+\n", result.err)
    assert not (tmp_path / "shown.png").exists()


def test_everything_that_is_called_so_is_shown(run: Any, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(offering("tiler", "lambda levels: levels[:, :1]").replace("bad", "magma"))
    result = run("plugins", "show", "magma", "--plugin", "mine.py")
    assert result.code == 0
    assert re.findall(r"^magma  (\w+)  ", result.out, re.MULTILINE) == ["tiler", "colormap"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("virdis", "nothing is called 'virdis'; did you mean 'viridis'?"),
        ("zzzzz", "nothing is called 'zzzzz'; `surgery plugins` lists what there is"),
        (
            "grid:colums=2",
            "no option of grid is called 'colums'; it takes columns, gap, limit, least, megapixels, labels; did",
        ),
        ("topk:k=0", "k is at least 1, not 0"),
        ("torchvision/resnt", "model torchvision/resnt can't be shown: ModelError: torchvision has no model 'resnt'"),
        ("bad", "tiler bad can't be shown: RenderError: tiler "),
    ],
)
def test_what_can_not_be_shown_is_one_clear_line(run: Any, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "bad.py").write_text(offering("tiler", "lambda levels: levels[:, 1 / 0]"))
    result = run("plugins", "show", name, "--plugin", "bad.py")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith(f"surgery: {message}")
    assert result.err.count("\n") == 1


def test_options_that_stand_before_the_command_are_a_usage_error(run: Any) -> None:
    result = run("plugins", "--json", "show", "grid")
    assert result.code == 2
    assert "options go after show" in result.err


def test_a_picture_is_drawn_in_half_blocks_of_its_own_colors() -> None:
    from rich.console import Console

    image = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0]], [[0, 0, 255], [9, 9, 9]]], np.uint8))
    console = Console(width=5, color_system="truecolor", force_terminal=True, legacy_windows=False)
    with console.capture() as capture:
        console.print(TerminalPicture(image, lines=1))
    one, two = "\x1b[38;2;255;0;0;48;2;0;0;255m▀\x1b[0m", "\x1b[38;2;0;255;0;48;2;9;9;9m▀\x1b[0m"
    assert capture.get() == f"{one}{two}\n"
    gray = Image.fromarray(np.array([[0, 60, 120, 180, 240]] * 2, np.uint8))
    assert printed(TerminalPicture(gray, lines=1), 5) == SHADES


def test_a_list_of_plugins_says_what_is_wrong_with_each(run: Any, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import surgery\n1 / 0\n")
    (tmp_path / "half.py").write_text(offering("tiler", "1 / 0"))
    arguments = ["--plugin", "broken.py", "--plugin", "half.py"]
    listed = {entry["name"]: entry for entry in json.loads(run("plugins", "--json", *arguments).out)}
    assert [(entry["state"], len(entry["faults"])) for entry in listed.values()] == [
        ("ready", 0),
        ("broken", 1),
        ("ready", 1),
    ]
    text = run("plugins", *arguments).out
    for name in ("broken.py", "half.py"):
        assert " ".join(listed[name]["faults"][0].split()) in " ".join(text.split())


def test_an_option_that_a_class_inherits_is_shown_after_its_own_with_its_note(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    result = run("plugins", "show", "scale:by=3,channels=0-5,7")
    assert (result.code, result.err) == (0, "")
    names = re.findall(r"^  (\w+)=", result.out, re.MULTILINE)
    assert names == ["by", "channels", "region", "amount", "mask"]
    assert re.search(r"^  channels=0-5,7 .* Numbers and ranges of channels, such as 0-15,20", result.out, re.MULTILINE)


def test_an_edit_is_shown_before_and_after_and_one_of_a_reference_with_another_image(run: Any, tmp_path: Path) -> None:
    lines = {}
    for name in ("replace", "mean:over=reference", "scale:by=1"):
        result = run("plugins", "show", name, "-o", "x.png")
        assert (result.code, result.err) == (0, "")
        lines[name] = next(line for line in result.out.splitlines() if line.startswith("down1.conv of facades"))
        pixels = read_pixels(tmp_path / "x.png")
        assert pixels.shape == (257, 2 * 515 + 4, 3)
        assert np.array_equal(pixels[:, :515], pixels[:, -515:]) == (name == "scale:by=1")
    both = "down1.conv of facades before and after"
    with_reference = f"{both}, with facade-2.png as the reference"
    assert list(lines.values()) == [with_reference, with_reference, both]


def test_a_new_edit_takes_channels_as_the_built_in_ones_do(run: Any) -> None:
    assert run("plugins", "new", "glow", "--kind", "edit").code == 0
    shown = run("plugins", "show", "glow:channels=0-3,7,share=0.9", "--plugin", "glow.py")
    assert (shown.code, shown.err) == (0, "")
    missing = run("plugins", "show", "glow:channels=8", "--plugin", "glow.py")
    assert missing.err.endswith("EditError: down1.conv has 8 channels, 0 to 7, not 8\n")


MANY = """
from contextlib import contextmanager
import surgery
@contextmanager
def each(folder):
    def write(activation):
        for channel in range(activation.values.shape[0] if activation.values.ndim else 1):
            name = surgery.file_name(f"{activation.path}-c{channel}", activation.operation.index)
            with folder.file(f"{folder.place(activation.image)}/{name}.txt", of=activation) as path:
                path.write_text(str(channel))
            count[0] += 1
    yield write
count = [0]
@surgery.hookimpl
def surgery_sinks(): return {"each": each}
"""


def test_a_sink_of_a_file_for_each_channel_is_checked_in_one_run_of_many_channels(run: Any, tmp_path: Path) -> None:
    (tmp_path / "many.py").write_text(MANY)
    result = run("plugins", "check", "many.py")
    assert (result.code, result.out) == (0, "sink each  ok\n1 thing keeps its promises\n")
    (module,) = [module for name, module in sys.modules.items() if name.endswith(".many")]
    assert 6_000 < module.count[0] < 12_000


def test_what_is_being_checked_is_told_at_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    from io import StringIO

    from rich.console import Console

    from surgery.cli import progress

    file = StringIO()
    monkeypatch.setattr(progress, "open_console", lambda **_: Console(file=file, force_terminal=True, width=60))
    with progress.StatusLine() as status:
        status("sink [/x]\x1b[2J: a run")
    assert r"sink [/x]\x1b[2J: a run" in file.getvalue()


@pytest.mark.parametrize("kind", [kind for kind in TEMPLATES if kind not in ("colormap", "engine")])
def test_a_new_plugin_says_what_it_is_given_and_what_it_gives(kind: str) -> None:
    text = (ROOT / "surgery" / "plugins" / "templates" / f"{kind}.py").read_text()
    comments = " ".join(line.partition("#")[2] for line in text.splitlines())
    assert re.search(r"shape|\((B|1), ", comments)
    assert re.search(r"dtype|float|uint8", comments)
