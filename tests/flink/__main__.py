"""``make flink-test``: the steps on a real Flink beside the default local run; a task manager is killed.

Without Beam's job-server jar it says so, and tests all that comes before Beam's own work on the cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from dlts_beam.beam.flink.jar import NoJobServerJarError, find_jar
from dlts_beam.errors import DltsError
from pipelines._main import run_main
from tests.flink.stand_in import END_SECONDS, say, send_stand_ins
from tests.flink.standalone import ROOT, VERSION, Standalone, free_port, install

SET = "porto_dos_gauchos_modis_2012"
MANAGERS = 2
NO_JAR = "Flink not run: no job-server jar"
# Enough tiles (27 x 37 pixels, one tile each) for a task manager to die among them.
KILLED_TILE = 1
_STEP_SECONDS = 900


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.flink", description=__doc__)
    add = parser.add_argument
    add("--data", type=Path, default=ROOT.parent / "shared" / "data", help="folder of the real series")
    add("--cache", type=Path, default=ROOT / ".cache" / "flink", help="where Flink is installed")
    add("--keep", type=Path, metavar="DIR", help="work in this folder, and keep it")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Gives the exit status: 0 also without the jar, 1 for any other failure."""
    return run_main(build_parser, _run, argv)


def _run(args: argparse.Namespace) -> None:
    if not (args.data / SET).is_dir():
        raise DltsError(f"there is no {SET} in {args.data}: name the folder of the real series with --data")
    work = args.keep or Path(tempfile.mkdtemp(prefix="dlts-flink-"))
    work.mkdir(parents=True, exist_ok=True)
    work = work.resolve()
    flink = install(args.cache)
    with Standalone(flink, work / "flink") as cluster:
        try:
            _story(args.data / SET, work, flink, cluster)
        except Exception:
            print(cluster.log_tail(), file=sys.stderr)
            raise
    if args.keep is None:
        shutil.rmtree(work)


def _story(data: Path, work: Path, flink: Path, cluster: Standalone) -> None:
    began = time.monotonic()
    seen = cluster.start(MANAGERS)
    say(
        f"Flink {VERSION} is up at {seen.url} after {time.monotonic() - began:.0f} s: REST tells of"
        f" {len(seen.hosts)} task managers and {seen.slots} slots; a worker pool listens at {cluster.pool}"
    )
    steps = Steps(data, work, [f"--flink_master={cluster.master}", f"--environment_config={cluster.pool}"])
    steps.local()
    _check_refusals(steps, cluster)
    try:
        found = f"job-server jar: {find_jar(seen.version)}"
        there = True
    except NoJobServerJarError as error:
        found, there = f"look-up: {error}", False
    say(found)
    if there:
        _with_jar(steps, cluster)
    else:
        _without_jar(steps, flink, cluster)
        say(NO_JAR)


class Steps:
    """The commands that users type, on the default runner and on Flink.

    Attributes:
        flags: choose Flink, and this cluster.
        local_dir, flink_dir: where each of the two leaves its results.
    """

    def __init__(self, data: Path, work: Path, flags: Sequence[str]) -> None:
        self._data, self.flags = data, ("--runner=FlinkRunner", *flags)
        self.local_dir, self.flink_dir = work / "local", work / "on-flink"

    def commands(self, folder: Path) -> dict[str, list[str]]:
        """The Beam steps that write to ``folder``; the model is the local one, since step 3 has no Beam."""
        series, samples = str(folder / "series"), str(folder / "samples")
        points = str(self._data / "samples" / "points.gpkg")
        bands = ["-b", "1", "2", "3", "4", "5", "6"]
        return {
            "generate-img-series": ["-i", str(self._data / "images"), *bands, "-o", series],
            "generate-series": ["-i", series, "-s", points, "-n", "5", "-o", samples],
            "classify-img-series": [
                "-i", series, "-m", str(self.local_dir / "model"), "-o", str(folder / "map.tif"),
            ],
        }  # fmt: skip

    def local(self) -> None:
        """All four steps on the default runner: what Flink's results are compared with."""
        began = time.monotonic()
        commands = self.commands(self.local_dir)
        model = str(self.local_dir / "model")
        training = ["-i", str(self.local_dir / "samples"), "--model", "lstm", "-e", "3", "-o", model]
        order = ["generate-img-series", "generate-series", "train-model", "classify-img-series"]
        for step in order:
            done = dlts(step, *commands.get(step, training))
            if done.returncode:
                raise DltsError(f"{step} failed on the default runner: {done.stderr.strip()}")
        say(f"the four steps on the default local runner: {time.monotonic() - began:.0f} s")

    def on_flink(self, step: str, *more: str) -> subprocess.CompletedProcess[str]:
        """Run one step on the cluster."""
        return dlts(step, *self.commands(self.flink_dir)[step], *self.flags, *more)

    def start_on_flink(self, step: str, *more: str) -> subprocess.Popen[str]:
        """Start one step on the cluster."""
        return _start(step, *self.commands(self.flink_dir)[step], *self.flags, *more)


def _check_refusals(steps: Steps, cluster: Standalone) -> None:
    """What cannot work is refused by the real cluster's own figures, before a jar is looked for."""
    refusals = {
        "--parallelism=99": f"--parallelism 99 needs as many task slots, and {MANAGERS} of {MANAGERS} ",
        "--flink_version=1.20": "--flink_version is 1.20, and the cluster at",
        "--environment_config=localhost:9": "no worker pool listens at localhost:9: start one",
        f"--flink_master={cluster.pool}": f"http://{cluster.pool} does not answer as a Flink master does",
        f"--flink_master=localhost:{free_port()}": "cannot reach the Flink master at http://localhost:",
    }
    for flag, sentence in refusals.items():
        _refused(steps, "generate-img-series", sentence, flag)
    say(f"{len(refusals)} submissions that cannot work were refused, each in one sentence")


def _refused(steps: Steps, step: str, sentence: str, *more: str) -> None:
    done = steps.on_flink(step, *more)
    told = done.stderr.strip().splitlines()
    if done.returncode != 1 or len(told) != 1 or not told[0].startswith(f"error: {sentence}"):
        raise DltsError(f"{step} {' '.join(more)} gave status {done.returncode} and said: {done.stderr}")


def _without_jar(steps: Steps, flink: Path, cluster: Standalone) -> None:
    # What step 1 would have left for the next ones.
    shutil.copytree(steps.local_dir / "series", steps.flink_dir / "series")
    for step in steps.commands(steps.flink_dir):
        _refused(steps, step, "no job-server jar for Flink 2.2 and Apache Beam ")
    left = sorted(path.name for path in steps.flink_dir.iterdir())
    if left != ["series"]:
        raise DltsError(f"refused submissions left {left} in {steps.flink_dir}")
    say("steps 1, 2 and 4 on FlinkRunner reach the look-up of the jar, and end with its sentence, status 1")
    if shutil.which("javac") is None:
        say("no javac here: no stand-in job was sent to the cluster")
        return
    send_stand_ins(flink, steps.flink_dir / "stand-in", cluster, steps.flags)


def _with_jar(steps: Steps, cluster: Standalone) -> None:
    for step in steps.commands(steps.flink_dir):
        began = time.monotonic()
        done = steps.on_flink(step)
        if done.returncode:
            raise DltsError(f"{step} failed on Flink: {done.stderr.strip()}")
        say(f"{step} on Flink: {time.monotonic() - began:.0f} s")
    _compare(steps)
    _kill_in_mid_run(steps, cluster)


def _compare(steps: Steps) -> None:
    """The series, the samples, the map and its certificate have the bytes of the local run."""
    shards = sorted(path.name for path in (steps.local_dir / "samples").glob("*.tfrecord.gz"))
    names = ["series/series.json", *(f"samples/{shard}" for shard in shards), "map.tif", "map.tif.json"]
    for name in names:
        if (steps.local_dir / name).read_bytes() != (steps.flink_dir / name).read_bytes():
            raise DltsError(f"{name} differs between the default local run and Flink: see {steps.flink_dir}")
    say(f"same bytes as the default local run: the series, {len(shards)} shards of samples, map, certificate")


def _kill_in_mid_run(steps: Steps, cluster: Standalone) -> None:
    """A task manager dies among many tiles; the same command again goes on from those that are there."""
    output = steps.flink_dir / "map.tif"
    output.unlink()
    output.with_name("map.tif.json").unlink()
    parts = output.with_name("map.tif.parts")
    small = ("--tile", str(KILLED_TILE))
    process = steps.start_on_flink("classify-img-series", *small)
    try:
        while process.poll() is None and not list(parts.glob("r*.tif")):
            time.sleep(0.01)
        if process.poll() is not None:
            raise DltsError(f"the run ended before it was disturbed: {process.communicate()[1]}")
        cluster.kill_manager()
        killed = time.monotonic()
        try:
            _, told = process.communicate(timeout=END_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise DltsError(f"{END_SECONDS} s after a task manager died the run still hangs") from error
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    took, tiles = time.monotonic() - killed, len(list(parts.glob("r*.tif")))
    end = told.strip() if process.returncode else "recovered by itself"
    say(
        f"a task manager killed in mid-run, with {tiles} tiles there: status {process.returncode} after"
        f" {took:.0f} s: {end}"
    )
    cluster.start_manager()
    cluster.wait_for(MANAGERS)
    done = steps.on_flink("classify-img-series", *small)
    if done.returncode:
        raise DltsError(f"the same command again failed: {done.stderr.strip()}")
    record = json.loads(output.with_name("map.tif.run.json").read_text())
    if output.read_bytes() != (steps.local_dir / "map.tif").read_bytes():
        raise DltsError(f"after recovery the map differs from the default local run: see {output}")
    kept = f"{record['reused']} of {record['expected']}"
    say(f"the same command again: {kept} tiles kept, and the map has the same bytes")


def _start(step: str, *arguments: str) -> subprocess.Popen[str]:
    # Elsewhere than the pool, so that nothing works by a shared folder.
    return subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", step, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )  # fmt: skip


def dlts(step: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    process = _start(step, *arguments)
    try:
        output, errors = process.communicate(timeout=_STEP_SECONDS)
    except subprocess.TimeoutExpired as error:
        os.killpg(process.pid, signal.SIGKILL)
        raise DltsError(f"{step} still runs after {_STEP_SECONDS} s") from error
    return subprocess.CompletedProcess(step, process.returncode, output, errors)


if __name__ == "__main__":
    sys.exit(main())
