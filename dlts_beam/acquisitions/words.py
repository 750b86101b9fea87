"""The words of file names, and which of them may name a band."""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence

from dlts_beam.dates import find_stamps

SEPARATORS = re.compile(r"[_\-. /#]+")
BAND_WORD = re.compile(
    r"(sr|st|qa|toa|boa)?_?(b(and)?_?\d{1,2}a?|blue|green|red|nir\d?|swir\d?|mir|tir\d?|pan|coastal|aerosol"
    r"|rededge\d?|re\d|ndvi|evi|evi2|ndwi|ndmi|savi|nbr|vv|vh|hh|hv|scl|qa|fmask|cloud|clouds|cmask|pixel)"
    r"(_?\d{2}m)?",
    re.IGNORECASE,
)


def _tokens(name: str) -> list[str]:
    """The words of a name, dates blanked."""
    text = name
    for stamp in reversed(find_stamps(name)):
        text = f"{text[: stamp.start]}#{text[stamp.end :]}"
    return [word for word in SEPARATORS.split(text) if word]


def varying_words(names: Sequence[str]) -> tuple[int, int] | None:
    """(start, end): how many words the names of one date and place share before and after what differs."""
    words = [_tokens(name) for name in names]
    columns = list(itertools.zip_longest(*words))
    start = next((number for number, column in enumerate(columns) if len(set(column)) > 1), None)
    if start is None:
        return None
    backwards = itertools.zip_longest(*(reversed(tokens[start:]) for tokens in words))
    return start, next((number for number, column in enumerate(backwards) if len(set(column)) > 1), 0)


def label_words(name: str, span: tuple[int, int]) -> str:
    """The words of a name without as many as ``span`` counts before and after."""
    tokens = _tokens(name)
    return "_".join(tokens[span[0] : len(tokens) - span[1]])
