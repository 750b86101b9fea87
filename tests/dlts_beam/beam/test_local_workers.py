"""Elements reach the next stage whole, however long it takes to encode them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from dlts_beam.beam.runner import parse_options, run_pipeline

COUNT = 40


def remake(number: int) -> SlowlyPickled:
    return SlowlyPickled(number)


class SlowlyPickled:
    """An element that lets other threads run while it is being encoded, as any large one does."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[int], SlowlyPickled], tuple[int]]:
        time.sleep(0.06)
        return remake, (self.number,)


class MakeAll(beam.DoFn):
    """Yields all elements in one bundle."""

    def process(self, element: Any) -> Iterator[SlowlyPickled]:
        yield from map(SlowlyPickled, range(COUNT))


def check(elements: list[SlowlyPickled]) -> None:
    assert sorted(element.number for element in elements) == list(range(COUNT))


def test_elements_are_never_sent_in_halves():
    """Beam's periodic flush, every second, would cut one of these elements in two."""

    def build(pipeline: beam.Pipeline) -> None:
        slow = pipeline | beam.Create([0]) | "Make" >> beam.ParDo(MakeAll())
        slow | "Shuffle" >> beam.Reshuffle() | beam.combiners.ToList() | "Check" >> beam.Map(check)

    run_pipeline(build, parse_options(["--direct_running_mode=multi_threading", "--direct_num_workers=2"]))
    assert worker_handlers.DATA_BUFFER_TIME_LIMIT_MS == 1000
