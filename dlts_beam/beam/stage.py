"""What the steps of the classifying stage share: settings, tasks, and what travels between them."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from apache_beam import coders

from dlts_beam.beam.handler import Cube, Read
from dlts_beam.grid import Tile, Window
from dlts_beam.io.area import Area
from dlts_beam.spec import ModelSpec, SeriesSpec


class TileTask(NamedTuple):
    """One tile to compute.

    Attributes:
        tile: where it is.
        key: digest of all that decides its content.
        area: digest of its wanted pixels, which is in the key too; None where all are wanted.
    """

    tile: Tile
    key: str
    area: str | None = None


class WindowKey(NamedTuple):
    """Which window of which tile an array belongs to: number ``number`` of ``of``."""

    task: TileTask
    window: Window
    number: int
    of: int


@dataclass(frozen=True)
class ClassifySettings:
    """All that the stage needs; travels to the workers.

    Attributes:
        series: the interval of the series that is classified.
        model: ``model.json``.
        serving: folder of the serving model.
        digest: of its bytes, as they were when the run was planned: no worker loads others.
        engine: name of the engine.
        window_height, window_width: largest window.
        parts: folder of the tiles' files.
        probabilities: also write them.
        quarantine: go on where a window cannot be read; its tile gets no part.
        area: pixels that are wanted; None for all.
        gpu: refuse workers without a GPU.
        hints: Beam's resource hints for the stage.
    """

    series: SeriesSpec
    model: ModelSpec
    serving: str
    digest: str
    engine: str
    window_height: int
    window_width: int
    parts: str
    probabilities: bool = False
    quarantine: bool = False
    area: Area | None = None
    gpu: bool = False
    hints: Mapping[str, str] = field(default_factory=dict)


class WindowData:
    """Type hint of what travels for one window: a Cube, Unread or Skipped."""


class WindowCoder(coders.Coder):
    """Pickles a window's data where a runner must, and tells its size without doing so.

    Beam samples the sizes of what passes between two steps; its general coder would pickle whole cubes
    just to count their bytes.
    """

    def encode(self, value: Read) -> bytes:
        """The bytes of a pickle."""
        return pickle.dumps(value, pickle.HIGHEST_PROTOCOL)

    def decode(self, encoded: bytes) -> Read:
        """What `encode` was given."""
        data: Read = pickle.loads(encoded)
        return data

    def estimate_size(self, value: Read) -> int:
        """Bytes of the arrays."""
        return value.nbytes if isinstance(value, Cube) else 64

    def is_deterministic(self) -> bool:
        """False: nobody groups by it."""
        return False


coders.registry.register_coder(WindowData, WindowCoder)
