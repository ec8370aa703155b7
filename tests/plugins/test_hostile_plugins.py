"""Broken plugins: each is reported in one line, and commands that do not need it work."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.distributions import Site, plugin

IMPORT = "import surgery, os, sys, time\n"
COLORMAPS = "@surgery.hookimpl\ndef surgery_colormaps():\n    return {'soot': ['black', 'gray']}\n"
GONE = None


def hook(name: str, body: str) -> str:
    return f"{IMPORT}@surgery.hookimpl\ndef surgery_{name}s():\n    {body}\n"


BROKEN = {
    "raises at import": (
        f"{IMPORT}\n1 / 0",
        r"is left out: can't be imported: ZeroDivisionError: division by zero \(.*:3\)",
    ),
    "is no Python": ("import surgery\n1 +", r"is left out: can't be imported: SyntaxError: invalid syntax \(.*:2\)"),
    "lacks a library": (
        "import nowhere",
        r"can't be imported: ModuleNotFoundError: No module named 'nowhere' \(.*:1\)",
    ),
    "fails deep in a library": (
        f"{IMPORT}\nimport json\njson.loads('[')",
        r"can't be imported: JSONDecodeError: .* \(.*(mine|surgery_bad)\.py:4\)",
    ),
    "exits at import": (f"{IMPORT}sys.exit('bye')", r"is left out: can't be imported: SystemExit: bye \(.*:2\)"),
    "says nothing": ("raise ValueError", r"is left out: can't be imported: ValueError: ValueError \(.*:1\)"),
    "has many lines": ("raise ValueError('a\\nb')", r"is left out: can't be imported: ValueError: a \(.*:1\)"),
    "has a misspelt hook": (
        f"{IMPORT}{COLORMAPS.replace('colormaps', 'colourmaps')}",
        r"is left out: there is no hook surgery_colourmaps; did you mean 'surgery_colormaps'\? \(.*:2\)",
    ),
    "has a hook of its own": (
        f"{IMPORT}{COLORMAPS.replace('surgery_colormaps', 'colormaps')}",
        r"is left out: there is no hook colormaps; did you mean 'surgery_colormaps'\? \(.*:2\)",
    ),
    "has an argument too many": (
        f"{IMPORT}{COLORMAPS.replace('()', '(style)')}",
        r"is left out: surgery_colormaps takes nothing, and not style \(.*:2\)",
    ),
    "offers nothing": ("x = 1", "is left out: offers nothing: mark a function such as surgery_colormaps with @surgery"),
    "has forgotten the mark": (
        COLORMAPS.partition("\n")[2],
        r"is left out: offers nothing: mark surgery_colormaps \(.*:1\) with @surgery.hookimpl",
    ),
    "raises in a hook": (
        hook("colormap", "return {}['soot']"),
        r": surgery_colormaps raised KeyError: 'soot' \(.*:4\); its colormaps are left out",
    ),
    "exits in a hook": (hook("colormap", "sys.exit(3)"), r": surgery_colormaps raised SystemExit: 3 \(.*:4\); its"),
    "returns a list": (
        hook("colormap", "return ['soot']"),
        r": surgery_colormaps has to return a mapping of names, not \['soot'\] \(.*:2\); its colormaps are left out",
    ),
    "forgets to return": (hook("colormap", "pass"), r"has to return a mapping of names, not None \(.*:2\)"),
    "offers a number": (
        hook("colormap", "return {'soot': 3}"),
        r"offers 3 as colormap 'soot'; .* \(.*:2\); it is left",
    ),
    "offers without a name": (
        hook("colormap", "return {3: 'red'}"),
        r"offers a colormap under the name 3; a name is a string",
    ),
    "offers a class": (
        hook("tiler", "return {'pile': dict}"),
        r"surgery_tilers offers the class dict as tiler 'pile'; offer an instance, dict\(\) \(.*:2\); it is left out",
    ),
    "offers no function": (hook("normalizer", "return {'soot': (0, 1)}"), r"offers \(0, 1\) as normalizer 'soot'"),
    "offers no model": (hook("model", "return {'soot': 'resnet'}"), r"offers 'resnet' as model 'soot'; offer a func"),
    "prints at import": (
        f"{IMPORT}print('hello\\nthere')\n{COLORMAPS}",
        r"prints 'hello', which is kept from standard output",
    ),
    "prints in a hook": (
        hook("colormap", "print('hi'); return {'soot': 'red'}"),
        r": surgery_colormaps prints 'hi', wh",
    ),
    "sleeps at import": (
        f"{IMPORT}time.sleep(1.1)\n{COLORMAPS}",
        r"takes 1\.\d s to import; import large libraries ins",
    ),
}
KEPT = ("prints at import", "prints in a hook", "sleeps at import")
"""The plugins that are reported but used."""


@pytest.fixture(params=["file", "installed"])
def broken(request: pytest.FixtureRequest, tmp_path: Path, site: Site) -> Any:
    """Return a function that writes or installs a plugin; it returns the plugin's name and the options that find it."""

    def put(text: str) -> tuple[str, list[str]]:
        if request.param == "file":
            return "mine.py", ["--plugin", str(plugin(tmp_path, text))]
        site.install("surgery-bad", text)
        return "surgery-bad", []

    return put


@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_wrong_is_one_line_and_all_else_is_listed(run: Any, broken: Any, fault: str) -> None:
    text, line = BROKEN[fault]
    name, arguments = broken(text)
    result = run("plugins", "--json", *arguments)
    assert result.code == 0
    assert result.err.count("\n") == 1, result.err
    assert result.err.startswith(f"surgery: plugin {name}")
    assert re.search(line, result.err), result.err
    own, bad = json.loads(result.out)
    assert own["tilers"] == ["grid", "strip", "channels"]
    assert (bad["name"], bad["state"]) == (name, "broken" if "plugin mine.py is left out" in line else bad["state"])
    assert bad["colormaps"] == (["soot"] if fault in KEPT else [])
    assert (bad["state"] == "broken") == (f"{name} is left out" in result.err)


WORKS = ("extract", "--at", "down8.conv", "--sink", "npz", "--tiler", "strip", "--no-output")


@pytest.mark.parametrize("fault", BROKEN)
def test_a_command_that_does_not_need_a_file_works(run: Any, fault: str, tmp_path: Path) -> None:
    text, _ = BROKEN[fault]
    result = run(*WORKS, "--plugin", plugin(tmp_path, text))
    assert result.code == 0, result.err
    assert (tmp_path / "activations" / "facade-1" / "activations.npz").is_file()


def test_installed_plugins_are_not_imported_for_a_command_that_does_not_need_them(
    run: Any, site: Site, tmp_path: Path
) -> None:
    for number, (text, _) in enumerate(BROKEN.values()):
        site.install(f"surgery-bad-{number}", text)
    result = run(*WORKS)
    assert (result.code, result.err) == (0, "")
    assert (tmp_path / "activations" / "facade-1" / "activations.npz").is_file()


@pytest.mark.parametrize("fault", BROKEN)
def test_with_strict_plugins_it_is_an_error(run: Any, broken: Any, fault: str) -> None:
    text, line = BROKEN[fault]
    name, arguments = broken(text)
    for command in (["plugins"], ["extract", "-o", "out"], ["inspect"], ["check"]):
        result = run(*command, "--strict-plugins", *arguments)
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith(f"surgery: plugin {name}")
        assert re.search(line, result.err), result.err
        assert result.err.count("\n") == 1
        for module in ("surgery_bad", "surgery_plugin_mine"):
            sys.modules.pop(module, None)
    assert not Path("out").exists()


@pytest.mark.parametrize("fault", [fault for fault in BROKEN if fault not in KEPT])
def test_a_command_that_needs_it_says_that_it_was_left_out(run: Any, broken: Any, fault: str) -> None:
    text, line = BROKEN[fault]
    name, arguments = broken(text)
    kind = next((kind for kind in ("tiler", "normalizer", "model") if f"surgery_{kind}s" in text), "colormap")
    what = {"model": ["soot"], "tiler": ["--tiler", "pile"]}.get(kind, [f"--{kind}", "soot"])
    result = run("extract", *what, *arguments)
    assert result.code == 1
    said, last = result.err.splitlines()
    assert re.search(line, said)
    assert last.startswith(f"surgery: no {kind} is called ")
    assert (f"; left out is {name}" in last) == ("is left out: " in said)


@pytest.mark.parametrize("fault", BROKEN)
def test_it_can_be_blocked(run: Any, broken: Any, fault: str) -> None:
    text, _ = BROKEN[fault]
    name, arguments = broken(text)
    result = run("plugins", "--json", "--no-plugin", name, "--strict-plugins", *arguments)
    assert (result.code, result.err) == (0, "")
    assert [(entry["name"], entry["state"]) for entry in json.loads(result.out)] == [
        ("surgery", "ready"),
        (name, "blocked"),
    ]


def test_all_but_the_built_in_ones_can_be_left_out(run: Any, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.install("surgery-bad", "1 / 0", watchers=True)
    monkeypatch.setenv("SURGERY_PLUGINS", "gone.py")
    Path("pyproject.toml").write_text("[tool.surgery]\nplugins = 3\n")
    result = run("plugins", "--json", "--no-plugins", "--strict-plugins")
    assert (result.code, result.err) == (0, "")
    assert [entry["name"] for entry in json.loads(result.out)] == ["surgery"]
    result = run("plugins", "--json")
    assert result.code == 0
    assert [line.split()[1:4] for line in result.err.splitlines()] == [
        ["plugins", "of", "[tool.surgery]"],
        ["there", "is", "no"],
        ["plugin", "surgery-bad", "is"],
    ]


@pytest.mark.parametrize(
    ("entry", "line"),
    [
        ("surgery_nowhere", r"No module named 'surgery_nowhere' \(entry point surgery_bad = surgery_nowhere\)"),
        ("json:gone", r"AttributeError: module 'json' has no attribute 'gone' \(entry point surgery_bad = json:gone\)"),
        ("json", "offers nothing"),
        ("json:dumps", "offers nothing"),
        ("not a name", r"can't be imported: .*\(entry point surgery_bad = not a name\)"),
    ],
)
def test_an_entry_point_to_nothing_is_said(run: Any, site: Site, entry: str, line: str) -> None:
    site.install("surgery-bad", GONE, entry=entry)
    result = run("plugins")
    assert result.code == 0
    assert re.match(f"surgery: plugin surgery-bad is left out: .*{line}", result.err)
    assert result.err.count("\n") == 1
    assert re.search("surgery-bad 1.2  installed  left out", result.out)
    assert run("inspect", "--at", "op:cat").err == ""


def test_a_taken_name_is_said_and_the_projects_own_is_used(run: Any, site: Site, tmp_path: Path) -> None:
    site.install("surgery-taker", hook("tiler", "return {'grid': lambda levels: 1 / 0}"))
    result = run("plugins")
    assert result.code == 0
    assert result.err == (
        "surgery: plugin surgery-taker offers tiler 'grid', which is surgery's own; write surgery-taker:grid\n"
    )
    assert run("extract", "--at", "down8.conv", "--sink", "png", "--tiler", "grid:gap=2").code == 0
    result = run("extract", "--at", "down8.conv", "--sink", "png", "--tiler", "surgery-taker:grid", "--overwrite")
    assert result.code == 1
    where = "surgery: at down8.conv of facade-1: tiler surgery_taker"
    assert re.fullmatch(where + r".* can't lay out .*: ZeroDivisionError: .* \(surgery_taker.py:4\)\n", result.err)


def test_a_file_with_a_taken_name_is_used_by_its_own_and_by_none_that_did_not_ask(run: Any, tmp_path: Path) -> None:
    mine = plugin(tmp_path, hook("tiler", "return {'grid': lambda levels: levels[:, :1, :3, :3]}"))
    only = ["extract", "--plugin", mine, "--at", "down5.conv", "--sink", "png", "--no-output", "--overwrite"]
    assert run(*only).code == 0
    result = run(*only, "--tiler", "grid")
    assert result.err == "surgery: tiler 'grid' is offered by both surgery and mine.py; write mine.py:grid\n"
    assert run(*only, "--tiler", "mine.py:grid").code == 0


WATCHER = """
import surgery
@surgery.hookimpl
def surgery_run_started(run):
    print("started", len(run.operations))
@surgery.hookimpl
def surgery_activation(activation):
    print(activation.path)
    if activation.operation.index:
        raise RuntimeError(f"no {activation.path}")
@surgery.hookimpl
def surgery_run_finished(report):
    print("finished")
"""


def test_a_watcher_that_raises_is_said_and_the_run_goes_on(run: Any, site: Site, tmp_path: Path) -> None:
    site.install("surgery-bad", WATCHER, watchers=True)
    site.install("surgery-good", WATCHER.replace("raise RuntimeError", "str"), watchers=True)
    arguments = ["extract", "--at", "down7.conv", "--at", "down8.conv", "--sink", "npz", "-o", "out", "--overwrite"]
    result = run(*arguments)
    assert result.code == 0
    assert result.err == (
        "surgery: plugin surgery-bad raised RuntimeError: no down7.conv (surgery_bad.py:10); it was left out of the "
        "rest of the run\n"
    )
    lines = result.out.splitlines()
    assert lines.count("started 2") == 2
    assert lines.count("finished") == 1
    assert [lines.count(name) for name in ("input", "down7.conv", "down8.conv", "output")] == [2, 2, 1, 1]
    strict = run(*arguments, "--strict-plugins")
    assert strict.code == 1
    assert strict.err == result.err
    assert run(*arguments, "--no-plugins").err == ""


@pytest.mark.parametrize(
    ("body", "line"),
    [
        (
            "return {'bad': lambda path, state: 1 / 0}",
            r"'bad' raised ZeroDivisionError: .* \(.*:4\); it is passed over",
        ),
        (
            "return {'bad': lambda path, state: 'net'}",
            "'bad' returned str, not a torch.nn.Module, a LoadedNetwork or None; it is passed over",
        ),
        ("return {'bad': lambda path: None}", r"'bad' raised TypeError: .* it is passed over"),
    ],
)
def test_a_reader_of_checkpoints_that_fails_is_passed_over(
    run: Any, site: Site, tmp_path: Path, body: str, line: str
) -> None:
    import torch

    torch.save({"weight": torch.zeros(3, 3, 1, 1)}, tmp_path / "net.pth")
    site.install("surgery-a", hook("checkpoint", body))
    result = run("inspect", "net.pth")
    assert result.code == 1
    said, last = result.err.splitlines()
    assert re.search(f"surgery: plugin surgery-a: checkpoint {line}", said)
    assert last.startswith("surgery: net.pth: its keys (weight) fit no known architecture")
    good = "import torch; n = torch.nn.Conv2d(3, 3, 1, bias=False); n.load_state_dict(state); return n"
    reader = f"{IMPORT}def read(path, state):\n    {good}\n{hook('checkpoint', 'return dict(good=read)')}"
    site.install("surgery-b", reader)
    result = run("inspect", "net.pth", "--size", "8")
    assert (result.code, result.err) == (0, f"{said}\n")


def test_a_model_that_prints_does_not_spoil_what_is_for_machines(run: Any, tmp_path: Path) -> None:
    body = "print('loading'); import torch; return torch.nn.Conv2d(3, 3, 1)"
    text = f"{IMPORT}def make():\n    {body}\n{hook('model', 'return dict(loud=make)')}"
    mine = plugin(tmp_path, text)
    result = run("inspect", "loud", "--json", "--size", "8", "--plugin", mine)
    assert json.loads(result.out)[0]["kind"] == "conv2d"
    assert result.err == "loading\n"
    assert json.loads(run("check", "loud", "--json", "--size", "8", "--plugin", mine).out)["same"]


def surgery(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "surgery", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, **environment},
    )


def test_what_a_plugin_has_others_print_is_kept_from_standard_output(tmp_path: Path) -> None:
    text = f"{IMPORT}os.system('echo shouted')\nos.write(1, b'written\\n')\n{COLORMAPS}"
    result = surgery("plugins", "--json", "--plugin", str(plugin(tmp_path, text)))
    assert json.loads(result.stdout)[1]["colormaps"] == ["soot"]
    assert "shouted" in result.stderr
    assert "written" in result.stderr


def used(command: Callable[[], subprocess.CompletedProcess[str]]) -> float:
    """Return the seconds of CPU time that a command takes."""
    before = os.times()
    assert command().returncode == 0
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


@pytest.mark.xdist_group("timing")
def test_listing_and_help_take_half_of_importing_torch_with_many_plugins_installed(site: Site) -> None:
    kinds = ("transform", "normalizer", "tiler", "edit", "measure", "sink", "model", "checkpoint", "reader")
    for number in range(20):
        offers = [hook(kind, f"return {{'{kind}{number}': len}}") for kind in kinds]
        site.install(f"surgery-p{number}", "".join(offers) + COLORMAPS.replace("soot", f"soot{number}"))
    path = {"PYTHONPATH": f"{site.folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    assert "soot19" in surgery("plugins", **path).stdout
    torch = [sys.executable, "-c", "import torch"]
    enough = used(lambda: subprocess.run(torch, capture_output=True, text=True, check=False)) / 2
    for arguments in (["--help"], ["extract", "--help"], ["plugins"], ["plugins", "--json"]):
        assert any(used(partial(surgery, *arguments, **path)) < enough for _ in range(3)), arguments


@pytest.mark.xdist_group("timing")
def test_a_plugin_that_sleeps_is_not_waited_for_where_it_is_not_needed(run: Any, site: Site) -> None:
    site.install("surgery-slow", f"{IMPORT}time.sleep(60)\n{COLORMAPS}")
    began = time.monotonic()
    assert run("inspect", "--at", "op:cat").code == 0
    assert run("extract", "--at", "down8.conv", "--sink", "npz", "--normalizer", "percentile:low=2").code == 0
    assert time.monotonic() - began < 30
    assert "surgery_slow" not in sys.modules
