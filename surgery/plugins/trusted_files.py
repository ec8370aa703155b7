"""Which plugins of a project may run: a stranger's folder runs no code because a command was typed in it.

Plugins that a pyproject.toml names, or ``SURGERY_PLUGINS`` by a relative path, depend on the folder that one stands in.
They run after the user has said so. That is remembered by their path and by the digest of every file that would run,
in ``trusted.json`` in the user's state directory (``$XDG_STATE_HOME/surgery``, else ``~/.local/state/surgery``): when
a file changes, the user is asked again. What the code itself opens or runs in other ways is not looked at.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias
from uuid import uuid4

from surgery.errors import OutputError
from surgery.plugins.file_modules import compute_digests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.plugins.discovery import PluginRequest
    from surgery.plugins.plugin import Plugin

TrustStatus: TypeAlias = Literal["trusted", "refused", "new", "changed"]


@dataclass(frozen=True, slots=True)
class UntrustedPlugins:
    """Plugins of a project whose code the user has not said may run."""

    request: PluginRequest
    plugins: Sequence[Plugin]
    status: TrustStatus
    files: dict[str, str]
    """Digests of all files that would run."""


def describe_untrusted(several: Sequence[UntrustedPlugins]) -> str:
    """One line: what is not run, why, and what to do."""
    names = ", ".join(plugin.name for one in several for plugin in one.plugins)
    by = ", ".join(dict.fromkeys(one.request.source for one in several))
    changed = any(one.status == "changed" for one in several)
    why = "changed since it was trusted" if changed else "is not trusted"
    return (
        f"plugins that {by} names are not run, since their code {why}: {names}; read it, then run "
        "`surgery plugins trust`, or give --trust for this once, or --no-plugins"
    )


def look_up_trust(path: Path, files: Sequence[Path]) -> tuple[TrustStatus, dict[str, str]]:
    """What the user has said of the plugin at a path, and the digests of its files as they are now.

    `files` are those that are loaded for it. Raises PluginError where they can't be read.
    """
    now = compute_digests(files)
    known = _read().get(_key(path))
    if known is None:
        return "new", now
    if known.get("files") != now:
        return "changed", now
    return ("trusted" if known.get("trusted") is True else "refused"), now


def record_trust(path: Path, files: dict[str, str], *, trusted: bool) -> None:
    """Keep what the user has said of a plugin with these digests. Raises OutputError where it can't be kept."""
    known = _read()
    known[_key(path)] = {"trusted": trusted, "files": files}
    _write(known)


def forget_trust(path: Path) -> bool:
    """Forget what was said of a plugin; False where nothing was. Raises OutputError where it can't be forgotten."""
    known = _read()
    if known.pop(_key(path), None) is None:
        return False
    _write(known)
    return True


def _key(path: Path) -> str:
    return os.path.abspath(path)  # noqa: PTH100 - a link that is turned elsewhere leads to files with other digests


def _place() -> Path:
    """The file in which it is kept. Raises OutputError where the user has no home."""
    given = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_STATE_HOME", "")
    try:
        home = Path(given) if given and Path(given).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise OutputError(
            "there is no home directory to keep in which plugins are trusted; set XDG_STATE_HOME"
        ) from error
    return home / "surgery" / "trusted.json"


def _read() -> dict[str, Any]:
    """What is kept; nothing where it can't be read."""
    with suppress(OSError, ValueError, RecursionError, OutputError):
        known = json.loads(_place().read_text(encoding="utf-8"))
        if isinstance(known, dict):
            return {path: entry for path, entry in known.items() if isinstance(entry, dict)}
    return {}


def _write(known: dict[str, Any]) -> None:
    place = _place()
    part = place.with_name(f".{uuid4().hex}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(known, file, indent=1)
        part.replace(place)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OutputError(f"can't write {place}: {(error.strerror or str(error)).lower()}") from error
