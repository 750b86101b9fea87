"""What step 4 would do: ``dlts plan`` is ``dlts classify-img-series --dry-run``."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from dlts_beam.command import crash_told, leave
from pipelines.classify_img_series import main as classify


def main(argv: Sequence[str] | None = None) -> int:
    """Tell tiles, bytes, memory and time of a classification, without doing it; gives the exit status."""
    return classify(["--dry-run", *(sys.argv[1:] if argv is None else argv)])


if __name__ == "__main__":
    leave(crash_told(main))
