"""``python -m surgery`` is `surgery`."""

import os
import sys

# Python looks for modules in the working directory first, where a stranger's rich.py may lie. Where `surgery` itself
# lies there, as in a checkout, it is to be found again.
_HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib is not imported yet
if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()) and os.getcwd() != _HOME:  # noqa: PTH109
    del sys.path[0]

from surgery.cli import main  # noqa: E402

main()
