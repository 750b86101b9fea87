"""Jobs that are submitted, watched and ended as ours are, on the real cluster, but do none of Beam's work.

They show that the launcher's side is right where Beam's job-server jar cannot be had: `StandIn.java` takes
the place of the class in that jar which Flink starts.
"""

from __future__ import annotations

import _thread
import json
import shutil
import subprocess
import threading
import time
import urllib.request
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

import apache_beam as beam

from dlts_beam.beam.flink.cluster import look_at
from dlts_beam.beam.runner import parse_options, run_pipeline
from dlts_beam.errors import DltsError
from tests.flink.standalone import Standalone

#: Within this the death of a machine must have been told.
END_SECONDS = 60
# What the stand-in job's worker says when it is to fail.
_WORKER_SAYS = "cannot read image_7.tif: it is cut short; copy it again"
_LONG = 300
_FAIL = 0


def say(text: str) -> None:
    """Tell one thing that held."""
    print(f"  {text}", flush=True)


def send_stand_ins(flink: Path, folder: Path, cluster: Standalone, flags: Sequence[str]) -> None:
    """One job that finishes, one that fails in a worker, one that is interrupted, one whose machine dies.

    Args:
        flink: where Flink's jars are.
        folder: for the stand-in jar.
        flags: choose this cluster.

    Raises:
        DltsError: one of them ended otherwise than it must.
    """
    jar = _compile(flink, folder)

    def send(seconds: int) -> str:
        more = [f"--flink_job_server_jar={jar}", f"--job_name=stand-in-{seconds}"]
        return str(run_pipeline(_any_pipeline, parse_options([*flags, *more])).state)

    slots = look_at(cluster.master).slots
    _must_finish(send(2))
    say(f"a stand-in job, submitted as ours are, ran on {slots} slots of the cluster and was seen DONE")
    _fail_in_a_worker(send)
    cluster.wait_for(slots)
    _interrupt(send, cluster)
    cluster.wait_for(slots)
    _kill_a_manager(send, cluster)
    cluster.start_manager()
    cluster.wait_for(slots)
    _must_finish(send(1))
    say("with a new task manager in its place the next job ran through")


def _must_finish(state: str) -> None:
    if state != "DONE":
        raise DltsError(f"the stand-in job ended as {state}")


def _fail_in_a_worker(send: Callable[[int], str]) -> None:
    try:
        state = send(_FAIL)
    except DltsError as error:
        if str(error) != _WORKER_SAYS:
            raise DltsError(f"a worker's sentence came back through Flink as: {error}") from error
        say(f"a worker's failure came back through Flink as its own sentence: {error}")
    else:
        raise DltsError(f"the stand-in job that fails ended as {state}")


def _interrupt(send: Callable[[int], str], cluster: Standalone) -> None:
    _when_busy(cluster, _thread.interrupt_main)
    try:
        state = send(_LONG)
    except KeyboardInterrupt:
        deadline = time.monotonic() + END_SECONDS
        while _states(cluster)[-1:] != ["CANCELED"]:
            if time.monotonic() > deadline:
                raise DltsError(f"after Ctrl-C the cluster's jobs are {_states(cluster)}") from None
            time.sleep(0.5)
        say("Ctrl-C ended the job on the cluster too: REST tells of it as CANCELED")
    else:
        raise DltsError(f"the stand-in job that was interrupted ended as {state}")


def _kill_a_manager(send: Callable[[int], str], cluster: Standalone) -> None:
    killed: list[float] = []

    def kill() -> None:
        cluster.kill_manager()
        killed.append(time.monotonic())

    _when_busy(cluster, kill)
    try:
        state = send(_LONG)
    except DltsError as error:
        if not killed:
            raise
        took = time.monotonic() - killed[0]
        if took > END_SECONDS or not str(error).startswith("the job failed on Flink: TaskManager with id "):
            raise DltsError(f"a task manager's death was told after {took:.0f} s as: {error}") from error
        say(f"a task manager killed in mid-run ended the job after {took:.0f} s: {error}")
    else:
        raise DltsError(f"the stand-in job whose task manager was killed ended as {state}")


def _when_busy(cluster: Standalone, act: Callable[[], object]) -> None:
    """Act from a thread once a job holds all slots and its tasks have begun."""

    def wait() -> None:
        while True:
            seen = look_at(cluster.master)
            if seen.running and not seen.free:
                break
            time.sleep(0.2)
        time.sleep(2)
        act()

    threading.Thread(target=wait, daemon=True).start()


def _states(cluster: Standalone) -> list[str]:
    """States of the cluster's jobs, the oldest first."""
    with urllib.request.urlopen(f"http://{cluster.master}/v1/jobs/overview", timeout=10) as answer:
        jobs = json.loads(answer.read())["jobs"]
    return [job["state"] for job in sorted(jobs, key=lambda job: job["start-time"])]


def _any_pipeline(pipeline: beam.Pipeline) -> None:
    _ = pipeline | "Create" >> beam.Create([1, 2]) | "Spread" >> beam.Reshuffle()


def _compile(flink: Path, folder: Path) -> Path:
    classes = folder / "classes"
    classes.mkdir(parents=True)
    source = folder / "FlinkPipelineRunner.java"
    shutil.copy(Path(__file__).with_name("StandIn.java"), source)
    subprocess.run(["javac", "-cp", f"{flink}/lib/*", "-d", str(classes), str(source)], check=True)
    jar = folder / "stand-in.jar"
    with zipfile.ZipFile(jar, "w") as file:
        for path in classes.rglob("*.class"):
            file.write(path, path.relative_to(classes))
    return jar
