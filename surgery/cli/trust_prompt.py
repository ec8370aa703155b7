"""The question whether the plugins of a project may run."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

from surgery.cli.standard_streams import SafeStream, print_message

if TYPE_CHECKING:
    from collections.abc import Sequence

    from surgery.plugins import UntrustedPlugins


def ask_for_trust(plugins: Sequence[UntrustedPlugins]) -> bool:
    """Ask the user whether plugins that a project names may run, and return and remember the answer.

    Returns False without a question when the user refused them before, or when nobody can answer.
    """
    from surgery.plugins import record_trust

    if all(plugin.status == "refused" for plugin in plugins) or not _is_interactive():
        return False
    for source in dict.fromkeys(plugin.request.source for plugin in plugins):
        print_message(f"{source} names plugins, whose code would run:")
        for plugin in plugins:
            for file in plugin.files if plugin.request.source == source else ():
                change = "  (this or another file of the plugin has changed)" if plugin.status == "changed" else ""
                print_message(f"  {file}{change}")
    SafeStream(sys.stderr).write("surgery: run it, now and as long as it stays the same? [y/N] ")
    sys.stderr.flush()
    agreed = sys.stdin.readline().strip().lower() in ("y", "yes")
    for plugin in plugins:
        record_trust(plugin.request.path, plugin.files, trusted=agreed)
    return agreed


def _is_interactive() -> bool:
    """Return whether a user can read a question on stderr and answer on stdin."""
    return not os.environ.get("CI") and all(
        stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)
    )
