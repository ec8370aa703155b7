"""The user's decisions which plugins of a project may run.

Plugins that a pyproject.toml names, or ``SURGERY_PLUGINS`` by a relative path, depend on the working directory. They
run only after the user has agreed, so that no command runs a stranger's code because it was typed in a stranger's
folder. A decision is stored with the path of the plugin and the SHA-256 of each file that would run, in
``trusted.json`` in the user's state directory (``$XDG_STATE_HOME/surgery``, or ``~/.local/state/surgery``). If one of
these files changes, the user is asked again. Files that the code opens or runs by itself are not covered.
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

from surgery.errors import OutputError, describe_os_error
from surgery.plugins.file_digests import compute_digests

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.plugins.discovery import PluginRequest
    from surgery.plugins.plugin import Plugin

TrustStatus: TypeAlias = Literal["trusted", "refused", "new", "changed"]
"""``new``: the user has not decided; ``changed``: a file has changed since the decision."""


@dataclass(frozen=True, slots=True)
class UntrustedPlugins:
    """Plugins at one path that the user has not allowed to run."""

    request: PluginRequest
    plugins: Sequence[Plugin]
    status: TrustStatus
    files: dict[str, str]
    """The SHA-256 of each file that would run, by its path."""


def describe_untrusted(untrusted: Sequence[UntrustedPlugins]) -> str:
    """Return one line: which plugins are not run, why, and what to do."""
    names = ", ".join(plugin.name for group in untrusted for plugin in group.plugins)
    sources = ", ".join(dict.fromkeys(group.request.source for group in untrusted))
    has_changed = any(group.status == "changed" for group in untrusted)
    reason = "changed since it was trusted" if has_changed else "is not trusted"
    return (
        f"plugins that {sources} names are not run, since their code {reason}: {names}; read it, then run "
        "`surgery plugins trust`, or give --trust for this once, or --no-plugins"
    )


def look_up_trust(path: Path, files: Sequence[Path]) -> tuple[TrustStatus, dict[str, str]]:
    """Return the user's decision on the plugin at a path, and the current SHA-256 of each file that would run.

    `files` are the files that are loaded for the plugin. Raises PluginError if one can't be read.
    """
    digests = compute_digests(files)
    decision = _read_decisions().get(_key(path))
    if decision is None:
        return "new", digests
    if decision.get("files") != digests:
        return "changed", digests
    return ("trusted" if decision.get("trusted") is True else "refused"), digests


def record_trust(path: Path, files: dict[str, str], *, trusted: bool) -> None:
    """Store the user's decision on a plugin with these digests. Raises OutputError if it can't be written."""
    decisions = _read_decisions()
    decisions[_key(path)] = {"trusted": trusted, "files": files}
    _write_decisions(decisions)


def forget_trust(path: Path) -> bool:
    """Delete the decision on a plugin; return whether there was one. Raises OutputError if it can't be written."""
    decisions = _read_decisions()
    if decisions.pop(_key(path), None) is None:
        return False
    _write_decisions(decisions)
    return True


def _key(path: Path) -> str:
    # Symbolic links need not be resolved: if one is changed, the digests differ.
    return os.path.abspath(path)  # noqa: PTH100


def _store() -> Path:
    """Return the file of the decisions. Raises OutputError if the user has no home directory."""
    variable = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_STATE_HOME", "")
    try:
        state = Path(variable) if variable and Path(variable).is_absolute() else Path.home() / ".local" / "state"
    except RuntimeError as error:
        raise OutputError("there is no home directory to store trusted plugins in; set XDG_STATE_HOME") from error
    return state / "surgery" / "trusted.json"


def _read_decisions() -> dict[str, Any]:
    """Return the stored decisions by path; none if the file can't be read."""
    with suppress(OSError, ValueError, RecursionError, OutputError):
        decisions = json.loads(_store().read_text(encoding="utf-8"))
        if isinstance(decisions, dict):
            return {path: decision for path, decision in decisions.items() if isinstance(decision, dict)}
    return {}


def _write_decisions(decisions: dict[str, Any]) -> None:
    store = _store()
    part = store.with_name(f".{uuid4().hex}.part")
    try:
        store.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(decisions, file, indent=1)
        part.replace(store)
    except OSError as error:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise OutputError(f"can't write {store}: {describe_os_error(error)}") from error
