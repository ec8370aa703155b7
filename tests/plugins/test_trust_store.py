"""A stranger's folder runs no code because a command was typed in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import surgery
from surgery.cli import trust_prompt
from surgery.errors import ModelError, PluginError
from surgery.plugins import discovery as origins
from surgery.plugins import file_digests
from surgery.plugins.file_modules import load_file
from surgery.plugins.registry import Plugins
from surgery.plugins.trust_store import UntrustedPlugins
from tests.distributions import plugin

EVIL = """
import surgery, pathlib
pathlib.Path({ran!r}).touch()
@surgery.hookimpl
def surgery_colormaps(): return {{"theirs": ["black", "red"]}}
"""


class Clone:
    """A repository of somebody else, which is the working directory."""

    def __init__(self, folder: Path, ran: Path) -> None:
        self.folder, self._ran = folder, ran

    @property
    def ran(self) -> bool:
        """Return whether its code has run since the last call."""
        found = self._ran.exists()
        self._ran.unlink(missing_ok=True)
        return found

    def write(self, name: str, text: str = EVIL, extra: str = "") -> None:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text.format(ran=str(self._ran)) + extra)

    def names(self, *plugins: str) -> None:
        self.write("pyproject.toml", f"[tool.surgery]\nplugins = {json.dumps(plugins)}\n".replace("{", "{{"))


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    (tmp_path / "clone").mkdir()
    monkeypatch.chdir(tmp_path / "clone")
    monkeypatch.setattr("sys.stdin", None)
    found = Clone(tmp_path / "clone", tmp_path / "ran")
    found.write("theirs.py")
    found.names("theirs.py")
    return found


@pytest.fixture
def command(clone: Clone, run: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(clone.folder)
    return run


NOT_RUN = "names are not run, since their code is not trusted: theirs.py; read it, then run `surgery plugins trust`"


@pytest.mark.parametrize(
    "arguments",
    [
        ["plugins"],
        ["plugins", "--json"],
        ["plugins", "show", "grid"],
        ["plugins", "new", "mine", "--kind", "tiler"],
        ["inspect", "--at", "down1.conv"],
        ["extract", "--at", "down1.conv", "--sink", "npz"],
    ],
)
def test_no_command_runs_what_is_not_trusted_and_each_says_so_in_one_line(
    command: Any, clone: Clone, arguments: list[str]
) -> None:
    result = command(*arguments)
    assert not clone.ran
    assert result.code == 0
    assert NOT_RUN in result.err
    assert result.err.count("\n") == 1
    assert command(*arguments, "--strict-plugins").code == 1
    assert not clone.ran


def test_python_runs_nothing_either_and_says_what_is_left_out(clone: Clone) -> None:
    with pytest.raises(ModelError, match=r"no model is called 'thiers'.*left out is theirs\.py"):
        surgery.load_model("thiers")
    assert Plugins().warnings[0].startswith(f"plugins that {clone.folder / 'pyproject.toml'} {NOT_RUN}")
    with pytest.raises(PluginError, match="is not trusted"):
        Plugins(strict=True)
    assert not clone.ran


def test_what_is_trusted_runs_until_it_changes(command: Any, clone: Clone) -> None:
    assert command("plugins", "trust").out == f"{clone.folder / 'theirs.py'}  trusted\n"
    assert not clone.ran
    result = command("plugins")
    assert (clone.ran, result.err) == (True, "")
    assert "theirs" in Plugins().names("colormap")
    clone.write("theirs.py", extra="# another\n")
    clone.ran  # noqa: B018 - as it was before
    result = command("plugins")
    assert (clone.ran, result.code) == (False, 0)
    assert "since their code changed since it was trusted: theirs.py" in result.err
    assert "theirs.py  " in result.out
    assert "not trusted, not run" in " ".join(result.out.split())  # which the terminal may break
    assert command("plugins", "trust").code == 0
    assert command("plugins").err == ""
    assert clone.ran
    assert command("plugins", "trust", "--forget").out.endswith("trusted no more\n")
    assert command("plugins", "trust", "--forget").out.endswith("was not trusted\n")
    assert "is not trusted" in command("plugins").err
    assert not clone.ran


def test_trust_for_once_is_not_remembered(command: Any, clone: Clone) -> None:
    assert command("plugins", "--trust").err == ""
    assert clone.ran
    assert "is not trusted" in command("plugins").err
    assert not clone.ran
    assert command("plugins", "--no-plugins").err == ""
    assert command("plugins", "--no-plugin", "theirs.py").err == ""
    assert not clone.ran


LAYOUTS: dict[str, tuple[str, dict[str, str], str]] = {
    "a neighbor": ("theirs.py", {"theirs.py": EVIL + "import _help\n", "_help.py": ""}, "_help.py"),
    "a neighbor of a neighbor": (
        "theirs.py",
        {"theirs.py": EVIL + "from . import _help\n", "_help.py": "def late(): import _more\n", "_more.py": ""},
        "_more.py",
    ),
    "a file in a folder": ("folder", {"folder/theirs.py": EVIL, "folder/other.py": "#"}, "folder/theirs.py"),
    "a new file in a folder": ("folder", {"folder/theirs.py": EVIL}, "folder/added.py"),
    "a module in a package": (
        "theirs",
        {
            "theirs/__init__.py": EVIL + "from .inner import deep\n",
            "theirs/inner/__init__.py": "",
            "theirs/inner/deep.py": "",
        },
        "theirs/inner/deep.py",
    ),
    "a package that is imported": (
        "theirs.py",
        {"theirs.py": EVIL + "from lib.a import b\n", "lib/__init__.py": "", "lib/a/__init__.py": "", "lib/a/b.py": ""},
        "lib/a/b.py",
    ),
    "a distribution": (
        "dist",
        {"dist/pyproject.toml": '[project.entry-points.surgery]\nx = "theirs"\n', "dist/src/theirs.py": EVIL},
        "dist/src/theirs.py",
    ),
    "what a link leads to": ("link.py", {"real/theirs.py": EVIL}, "real/theirs.py"),
}


@pytest.mark.parametrize("title", LAYOUTS)
def test_any_file_that_would_run_has_to_be_what_was_trusted(command: Any, clone: Clone, title: str) -> None:
    name, files, touched = LAYOUTS[title]
    for file, text in files.items():
        clone.write(file, text)
    if name == "link.py":
        (clone.folder / name).symlink_to("real/theirs.py")
    clone.names(name)
    assert "is not trusted" in command("plugins").err
    assert not clone.ran
    assert command("plugins", "trust").code == 0
    result = command("plugins")
    assert (clone.ran, result.err) == (True, "")
    clone.write(touched, files.get(touched, EVIL.replace("theirs", "added")), "# another\n")
    assert "changed since it was trusted" in command("plugins").err
    assert not clone.ran


def test_a_plugin_that_loads_too_many_files_to_check_is_named(clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        clone.write(f"{name}.py", "")
    clone.write("theirs.py", "import one, two\n")
    plugin = (clone.folder / "theirs.py").resolve()
    monkeypatch.setattr(file_digests, "MAX_FILES", 3)
    assert len(file_digests.compute_digests([plugin])) == 3
    monkeypatch.setattr(file_digests, "MAX_FILES", 2)
    with pytest.raises(PluginError, match=f"^plugin {re.escape(str(plugin))} loads more than 2 files.*--plugin$"):
        file_digests.compute_digests([plugin])


def test_a_link_that_is_turned_elsewhere_is_not_trusted(command: Any, clone: Clone) -> None:
    for name in ("a", "b"):
        clone.write(f"{name}/theirs.py")
    (clone.folder / "link.py").symlink_to("a/theirs.py")
    clone.names("link.py")
    command("plugins", "trust")
    (clone.folder / "link.py").unlink()
    (clone.folder / "link.py").symlink_to("b/theirs.py")
    assert "changed since" in command("plugins").err
    assert not clone.ran


def test_a_file_that_no_import_names_is_not_run_for_what_is_trusted(command: Any, clone: Clone) -> None:
    clone.write("theirs.py", "import importlib\nimportlib.import_module('.hidden', __package__)\n" + EVIL)
    clone.write("hidden.py")
    command("plugins", "trust")
    result = command("plugins")
    assert not clone.ran
    assert "is not among the files that were trusted" in result.err


def test_bytecode_that_lies_beside_a_file_is_not_run(clone: Clone, tmp_path: Path) -> None:
    import importlib.util
    import py_compile

    clone.write("evil.py")
    clone.write("theirs.py", "import surgery\n@surgery.hookimpl\ndef surgery_colormaps(): return {{}}\n")
    file = clone.folder / "theirs.py"
    cached = importlib.util.cache_from_source(str(file))
    mode = py_compile.PycInvalidationMode.UNCHECKED_HASH
    py_compile.compile(str(clone.folder / "evil.py"), cached, invalidation_mode=mode)
    load_file(file)
    assert not clone.ran


class Terminal:
    """A standard input at which a user types."""

    def __init__(self, *lines: str) -> None:
        self.lines = list(lines)

    def isatty(self) -> bool:
        return True

    def readline(self) -> str:
        return self.lines.pop(0)


def test_somebody_at_a_terminal_is_asked_once(command: Any, clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trust_prompt, "_is_interactive", lambda: True)
    for answer, runs in (("n\n", False), ("y\n", True)):
        clone.write("theirs.py", extra=f"# {answer}")
        monkeypatch.setattr("sys.stdin", Terminal(answer))
        result = command("plugins")
        assert clone.ran is runs
        assert f"surgery:   {clone.folder / 'theirs.py'}" in result.err
        assert result.err.count("[y/N]") == 1
        result = command("plugins")
        assert clone.ran is runs
        assert "[y/N]" not in result.err
    monkeypatch.setattr("sys.stdin", Terminal(""))
    clone.write("theirs.py", extra="# end of input")
    assert "is not trusted" in command("plugins").err or not clone.ran


def test_nobody_is_asked_where_nobody_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("sys.stderr", Terminal())
    monkeypatch.delenv("CI", raising=False)
    assert trust_prompt._is_interactive()
    monkeypatch.setenv("CI", "true")
    assert not trust_prompt._is_interactive()
    monkeypatch.delenv("CI")
    monkeypatch.setattr("sys.stdin", None)
    assert not trust_prompt._is_interactive()


@pytest.mark.parametrize("name", ["theirs.py", "./theirs.py", "../clone/theirs.py"])
def test_a_relative_path_in_the_environment_is_asked_for_too(
    command: Any, clone: Clone, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (clone.folder / "pyproject.toml").unlink()
    monkeypatch.setenv("SURGERY_PLUGINS", name)
    assert "plugins that SURGERY_PLUGINS names are not run" in command("plugins").err
    assert not clone.ran
    monkeypatch.setenv("SURGERY_PLUGINS", str(clone.folder / "theirs.py"))
    assert command("plugins").err == ""
    assert clone.ran
    monkeypatch.setenv("HOME", str(clone.folder))
    monkeypatch.setenv("SURGERY_PLUGINS", "~/theirs.py")
    assert command("plugins").err == ""
    assert clone.ran


def test_what_was_asked_for_by_its_name_needs_no_trust(command: Any, clone: Clone) -> None:
    (clone.folder / "pyproject.toml").unlink()
    assert command("plugins", "--plugin", "theirs.py").err == ""
    assert clone.ran
    assert command("plugins", "check", "theirs.py").err == ""
    assert clone.ran


@pytest.mark.parametrize("content", ["", "[", "[1]", '{"x": 3}', "[" * 100_000])
def test_a_record_that_can_not_be_read_trusts_nothing(command: Any, clone: Clone, content: str) -> None:
    command("plugins", "trust")
    record = Path(os.environ["XDG_STATE_HOME"]) / "surgery" / "trusted.json"
    assert record.stat().st_mode & 0o077 == 0
    record.write_text(content)
    assert "is not trusted" in command("plugins").err
    assert not clone.ran
    assert command("plugins", "trust").code == 0
    assert command("plugins").err == ""


def test_a_state_home_that_is_relative_is_not_used(command: Any, clone: Clone, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")
    monkeypatch.setenv("HOME", str(clone.folder.parent))
    command("plugins", "trust")
    assert not (clone.folder / "state").exists()
    assert (clone.folder.parent / ".local" / "state" / "surgery" / "trusted.json").is_file()


def python(*arguments: str, cwd: Path) -> str:
    home = str(Path(surgery.__file__).parent.parent)
    ran = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "PYTHONPATH": home},
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    return ran.stdout + ran.stderr


def test_a_module_of_the_working_directory_is_not_imported_for_one_of_a_library(clone: Clone) -> None:
    (clone.folder / "pyproject.toml").unlink()
    for name in ("rich", "typer", "numpy", "torchvision", "PIL", "surgery_ember", "orjson", "pluggy", "cmap"):
        clone.write(f"{name}.py")
    info = clone.folder / "surgery_ember.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: surgery-ember\nVersion: 1\n")
    (info / "entry_points.txt").write_text(
        "[surgery]\nember = surgery_ember\n[surgery.watchers]\nember = surgery_ember\n"
    )
    said = python("-m", "surgery", "plugins", "--json", cwd=clone.folder)
    assert next(iter(json.loads(said)))["name"] == "surgery"
    assert not clone.ran, said


def test_a_distribution_of_the_working_directory_is_not_installed(
    clone: Clone, monkeypatch: pytest.MonkeyPatch
) -> None:
    from importlib.metadata import distributions

    info = clone.folder / "surgery_theirs.egg-info"
    info.mkdir()
    (info / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: surgery-theirs\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[surgery]\nember = theirs\n")
    monkeypatch.syspath_prepend("")
    monkeypatch.setattr(origins, "distributions", distributions)
    assert "surgery-theirs" not in [found.name for found in origins.find_installed_plugins()]


def test_whoever_asks_is_told_which_files_and_why(clone: Clone) -> None:
    asked: list[UntrustedPlugins] = []
    plugin(clone.folder, "x = 1", "_help.py")
    clone.write("theirs.py", extra="import _help\n")

    def ask(several: Any) -> bool:
        asked.extend(several)
        return True

    assert "theirs" in Plugins(confirm_trust=ask).names("colormap")
    (one,) = asked
    assert sorted(one.files) == [str(clone.folder / "_help.py"), str(clone.folder / "theirs.py")]
    assert (one.status, [found.name for found in one.plugins]) == ("new", ["theirs.py"])


NET = "import _layers\nfrom torch import nn\ndef make():\n    import _late\n    return nn.Conv2d(3, 3, 1)\n"


@pytest.mark.parametrize("source", ["nets_here:make", "nets_here.py:make"])
def test_a_model_of_the_working_directory_imports_its_own_and_hides_nothing(clone: Clone, source: str) -> None:
    (clone.folder / "pyproject.toml").unlink()
    for name in ("rich", "numpy", "PIL", "safetensors", "orjson", "isal"):
        clone.write(f"{name}.py")
    clone.write("nets_here.py", NET)
    for name in ("_layers", "_late"):
        clone.write(f"{name}.py", "")
    said = python("-m", "surgery", "extract", source, "--at", "op:conv2d", "--sink", "npz", cwd=clone.folder)
    assert "1 image" in said, said
    assert not clone.ran, said


def test_a_file_of_the_working_directory_does_not_hide_an_installed_package_of_models(clone: Clone) -> None:
    (clone.folder / "pyproject.toml").unlink()
    clone.write("json.py")
    clone.write("torchvision.py")
    assert "torchvision.models has no 'nothing'" in python(
        "-m", "surgery", "inspect", "torchvision.models:nothing", cwd=clone.folder
    )
    assert not clone.ran


OFFERS = """
import surgery

@surgery.hookimpl
def surgery_colormaps(): {broken}return {{"EMBER": ["black", "red"], "tomato": ["black", "white"]}}

@surgery.hookimpl
def surgery_normalizers(): {broken}return dict(minmax=print)

@surgery.hookimpl
def surgery_readers():
    {broken}return {{"image": print, "tensor": print}}

@surgery.hookimpl
def surgery_models():
    {broken}return {{"facades": print}}

@surgery.hookimpl
def surgery_sinks():
    {broken}return {{"png": print}}
"""
TAKEN: list[tuple[Any, str]] = [
    ("colormap", "ember"),
    ("colormap", "tomato"),
    ("normalizer", "minmax"),
    ("reader", "tensor:key=x"),
    ("model", "facades"),
    ("sink", "png:level=2"),
]


@pytest.mark.parametrize("state", ["untrusted", "does not load", "raises", "is fine"])
@pytest.mark.parametrize(("kind", "text"), TAKEN)
def test_who_gets_another_object_than_that_of_a_plugin_that_is_left_out_is_told(
    clone: Clone, kind: Any, text: str, state: str
) -> None:
    code = OFFERS.format(broken="1 / 0; " if state == "raises" else "")
    (clone.folder / "theirs.py").write_text(code + ("\n1 / 0" if state == "does not load" else ""))
    said: list[str] = []
    plugins = Plugins(on_warning=said.append, confirm_trust=lambda _: state != "untrusted")
    name = text.partition(":")[0]
    if state == "is fine":
        plugins = Plugins(on_warning=said.append, bare=True)
        plugins.find(kind, text)
        assert not said
        return
    plugins.find(kind, text)
    which = "a color of the library" if name == "tomato" else "that of surgery"
    reason = "is not trusted (`surgery plugins trust`)" if state == "untrusted" else "is left out"
    begin = f"{kind} {name!r} is {which}; plugin theirs.py, which {reason}, has one of that name too"
    end = "" if name == "tomato" else f"; write surgery:{name} if you mean this one"
    assert said[-1] == begin + end
    before = len(said)
    plugins.find(kind, f"surgery:{text}")
    plugins.find(kind, {"colormap": "viridis", "reader": "image:indices=yes"}.get(kind, "no such name"))
    assert len(said) == before + (kind == "reader"), "a name of the library's own, or one that is named in full"


def test_python_is_warned_of_a_name_that_a_plugin_without_trust_has_too(clone: Clone) -> None:
    (clone.folder / "theirs.py").write_text(OFFERS.format(broken=""))
    with pytest.warns(UserWarning, match="colormap 'ember' is that of surgery; plugin theirs.py, which is not trusted"):
        surgery.draw(torch.rand(1, 2, 4, 4), colormap="ember")
