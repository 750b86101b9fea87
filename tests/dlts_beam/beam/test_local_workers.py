"""Elements reach the next stage whole; broken streams are told once, whenever their threads end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
import grpc
import pytest
from apache_beam.runners.portability.fn_api_runner import worker_handlers

from dlts_beam.beam.local_workers import hushed_streams
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


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> list[type[BaseException]]:
    """What threads that failed have told."""
    told: list[type[BaseException]] = []
    monkeypatch.setattr(threading, "excepthook", lambda failed: told.append(failed.exc_type))
    return told


def failing_thread(error: BaseException) -> tuple[threading.Thread, threading.Event]:
    """A thread that raises ``error`` once the event is set."""
    event = threading.Event()

    def fail() -> None:
        event.wait(10)
        raise error

    thread = threading.Thread(target=fail)
    thread.start()
    return thread, event


def end(thread: threading.Thread, event: threading.Event) -> None:
    event.set()
    thread.join()


def test_a_stream_that_breaks_in_a_run_or_just_after_it_tells_nothing(heard: list[type[BaseException]]):
    with hushed_streams():
        end(*failing_thread(grpc.RpcError()))
        late = failing_thread(grpc.RpcError())
    end(*late)
    assert heard == []


def test_other_failures_and_streams_of_others_are_told(heard: list[type[BaseException]]):
    before = failing_thread(grpc.RpcError())
    with hushed_streams():
        end(*failing_thread(ValueError()))
        assert heard == [ValueError]
        late, late_failure = failing_thread(grpc.RpcError()), failing_thread(KeyError())
    end(*before)
    end(*failing_thread(grpc.RpcError()))
    end(*late_failure)
    assert heard == [ValueError, grpc.RpcError, grpc.RpcError, KeyError]
    end(*late)
    assert len(heard) == 4


def test_the_hook_is_put_back_when_no_thread_is_left(heard: list[type[BaseException]]):
    before = threading.excepthook
    with hushed_streams():
        end(*failing_thread(grpc.RpcError()))
    assert threading.excepthook is before
