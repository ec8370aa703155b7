"""Messages in the terms of the command line: options in place of Python arguments."""

from __future__ import annotations

import re

_REPLACEMENTS = (
    (r"leaves=\[(['\"])([^'\"]+)\1\](?:, or --leaf \S+ on the command line)?", r"--leaf \2"),
    (r"front_end=(['\"])(\w+)\1", r"--front-end \2"),
    (r"leaves=\[\.\.\.\]", "--leaf NAME"),
    (r"allow=\[(['\"])([^'\"]+)\1\](?: \(--allow [^\s()]+\))?", r"--allow \2"),
    (r"(--[a-z-]+(?: [a-z,]+)?) \([a-z_]+=[^\s()]*\)", r"\1"),
    (r" \([^()]*= in Python\)| \([a-z_]+=[^()]* in Python\)", ""),
)


def with_option_names(message: str) -> str:
    """Return a message with options in place of Python arguments: ``--leaf Block`` for ``leaves=["Block"]``."""
    for pattern, option in _REPLACEMENTS:
        message = re.sub(pattern, option, message)
    return message
