"""``python -m surgery_video COMPARED OUT``: animations of a comparison."""

from __future__ import annotations

import argparse
import sys

from surgery.errors import SurgeryError
from surgery_video.comparisons import animate_comparison


def main() -> int:
    """Animate the folder of a comparison. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m surgery_video", description="Animate what surgery compare drew.")
    parser.add_argument("folder", help="what surgery compare -o wrote")
    parser.add_argument("out", help="where the animations go")
    parser.add_argument("--fps", type=float, default=4)
    parser.add_argument("--format", choices=("apng", "webp"), default="apng")
    options = parser.parse_args()
    try:
        written = animate_comparison(options.folder, options.out, fps=options.fps, format=options.format)
    except SurgeryError as error:
        print(f"surgery_video: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"{options.out}: {len(written)} animation{'s' if len(written) > 1 else ''}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
