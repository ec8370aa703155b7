from __future__ import annotations

import itertools
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from surgery.cli import app as cli
from surgery.plugins import discovery as origins
from tests.distributions import Site

INSTALLED = {str(distribution.locate_file("")) for distribution in distributions()}
"""Where distributions were before a test began."""
_numbers = itertools.count()


@pytest.fixture(autouse=True)
def no_installed_plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plugins that happen to be installed beside the project are not seen; those of a test's own `site` are."""
    monkeypatch.setattr(
        origins, "distributions", lambda: [d for d in distributions() if str(d.locate_file("")) not in INSTALLED]
    )


def pytest_collection_finish() -> None:
    """Let no trace search the modules of other tests for names that its model may use: there are hundreds of them."""
    from surgery.eager import user_code

    hidden = {name: module for name, module in sys.modules.items() if name.startswith("tests.") and ".test_" in name}
    user_code._libraries.update(hidden)


@pytest.fixture(autouse=True)
def names_of_its_own(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of a test's own module are the user's."""
    from surgery.eager import user_code

    monkeypatch.delitem(user_code._libraries, request.module.__name__, raising=False)


@pytest.fixture(autouse=True)
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the user has said of plugins is not seen, and not changed."""
    # Its folder isn't made before it is needed: most tests write nothing there.
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "states" / str(next(_numbers))))


class Result:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """`surgery` with arguments, in an empty working directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")

    def run(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["surgery", *map(str, arguments)])
        code: Any = 0
        try:
            cli.main()
        except SystemExit as stop:
            code = stop.code or 0
        captured = capsys.readouterr()
        return Result(code, captured.out, captured.err)

    return run


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Where distributions are installed."""
    return Site(tmp_path / "site-packages", monkeypatch)
