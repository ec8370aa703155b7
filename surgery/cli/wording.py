"""The words of where somebody is: options of the command line, arguments of Python."""

from __future__ import annotations

import re

_RULES = (
    (r"leaves=\[(['\"])([^'\"]+)\1\](?:, or --leaf \S+ on the command line)?", r"--leaf \2"),
    (r"leaves=\[\.\.\.\]", "--leaf NAME"),
    (r"allow=\[(['\"])([^'\"]+)\1\](?: \(--allow [^\s()]+\))?", r"--allow \2"),
    (r"(--[a-z-]+) \([a-z_]+=[^\s()]*\)", r"\1"),
    (r" \([^()]*= in Python\)| \([a-z_]+=[^()]* in Python\)", ""),
)


def for_command_line(text: str) -> str:
    """A message that names arguments of Python, ``leaves=["Block"]``, with the options they are: ``--leaf Block``."""
    for pattern, option in _RULES:
        text = re.sub(pattern, option, text)
    return text
