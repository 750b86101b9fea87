"""The pipelines on a real series, each in every way that needs no cluster: always the same bytes.

The worker pools of the portable job service stand for other machines: each has a working folder, a folder for
temporary files and a home of its own, and the launcher's files and the real series are hidden from it. All
that they share with the launcher is the bucket.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dlts_beam import storage
from pipelines.cli import main as dlts
from tests.servers import balancer, end, free_port, server, tool

ROOT = Path(__file__).parent.parent.parent
STACK, CUT, CLASSIFY = STEPS = ("generate-img-series", "generate-series", "classify-img-series")
TRAINING = ("-e", "2", "-b", "32", "-l", "0.01", "--model", "lstm", "--model-config", '{"units": 8}')
BANDS = ("-b", "1", "2", "3", "4", "5", "6")
SECONDS = 60  # in which a launcher must notice that its workers are gone
TILE = ("--tile", "4")
TILES = 70


@dataclass(frozen=True)
class Place:
    """Where a run reads and writes: a local folder or one on gs://."""

    images: str
    points: str
    model: str
    output: str

    def command(self, step: str) -> list[str]:
        """Flags of ``generate-img-series``, ``generate-series`` or ``classify-img-series``."""
        series = storage.join(self.output, "series")
        if step == STACK:
            return [step, "-i", self.images, *BANDS, "-o", series]
        if step == CUT:
            samples = storage.join(self.output, "samples")
            return [step, "-i", series, "-s", self.points, "-o", samples, "--shards", "3"]
        return [step, "-i", series, "-m", self.model, "-o", self.map, *TILE]

    @property
    def map(self) -> str:
        """The map."""
        return storage.join(self.output, "map.tif")

    def bytes(self) -> dict[str, bytes]:
        """All that must be the same wherever it is made: samples and what is told of them, and the map."""
        entries = storage.list_files(storage.join(self.output, "samples"))
        names = ("rejected.csv", "quality.csv", "classes.csv")
        kept = [entry.path for entry in entries if entry.path.endswith((".tfrecord.gz", *names))]
        return {storage.name(path): storage.read_bytes(path) for path in (*kept, self.map)}


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the launcher, which no worker pool can see."""
    return tmp_path_factory.mktemp("launcher")


@pytest.fixture(scope="module")
def plain(real_data: Path, launcher: Path) -> Place:
    """The run to compare with: this process, the default runner."""
    data = real_data / "porto_dos_gauchos_modis_2012"
    output = str(launcher / "plain")
    model = storage.join(output, "model")
    place = Place(str(data / "images"), str(data / "samples" / "points.gpkg"), model, output)
    for step in (STACK, CUT):
        assert dlts(place.command(step)) == 0
    samples = storage.join(output, "samples")
    assert dlts(["train-model", "-i", samples, "-o", model, *TRAINING]) == 0
    assert dlts(place.command(CLASSIFY)) == 0
    return place


@pytest.fixture(scope="module")
def remote(plain: Place, bucket: str) -> Place:
    """The inputs on gs://."""
    far = Place(*(storage.join(bucket, "porto", name) for name in ("images", "points.gpkg", "model", "out")))
    storage.upload(plain.points, far.points)
    for near, there in ((plain.images, far.images), (plain.model, far.model)):
        for entry in storage.list_files(near, recursive=True):
            storage.upload(entry.path, storage.join(there, entry.path.removeprefix(near).lstrip("/")))
    return far


def environment(launcher: Path) -> dict[str, str]:
    """The launcher's: its temporary files lie in its folder."""
    (launcher / "tmp").mkdir(exist_ok=True)
    return {**os.environ, "TMPDIR": str(launcher / "tmp"), "PYTHONPATH": str(ROOT)}


def run(
    command: Sequence[str], flags: Sequence[str], launcher: Path, timeout: float = 600
) -> subprocess.CompletedProcess[str]:
    """Run a command of ours as a process of its own, in the launcher's folder."""
    return subprocess.run(
        [sys.executable, "-m", "pipelines.cli", *command, *flags],
        cwd=launcher, capture_output=True, text=True, timeout=timeout, check=False,
        env=environment(launcher),
    )  # fmt: skip


def run_all(place: Place, flags: Sequence[str], launcher: Path) -> None:
    """The three pipelines."""
    for step in STEPS:
        done = run(place.command(step), flags, launcher)
        assert done.returncode == 0, f"{step}: {done.stderr}"


@dataclass
class Pools:
    """Two worker pools behind one address, and the job service that uses them."""

    flags: tuple[str, ...]
    pools: list[subprocess.Popen[bytes]]
    service: subprocess.Popen[bytes]
    folders: list[Path]


def apart(command: Sequence[str], hidden: Sequence[Path]) -> list[str]:
    """A command that sees empty folders where the hidden ones are: in a mount namespace of its own."""
    hide = " && ".join(f"mount -t tmpfs none {shlex.quote(str(folder))}" for folder in hidden)
    look = " ".join(f"{shlex.quote(str(folder))}" for folder in hidden)
    script = f"{hide} && ls -A {look} > seen && exec {shlex.join(command)}"
    own = ["--map-root-user"] if os.geteuid() != 0 else []
    return ["unshare", "--mount", *own, "sh", "-c", script]


OUR_SERVICE = "dlts_beam.beam.job_service"
BEAM_SERVICE = "apache_beam.runners.portability.local_job_service_main"


@contextmanager
def pools_and_service(
    folder: Path, hidden: Sequence[Path], service: str = OUR_SERVICE, more: Sequence[str] = ()
) -> Iterator[Pools]:
    """Start two pools and a job service."""
    with ExitStack() as stack:
        pools, folders, ports = [], [], []
        for number in range(2):
            own = folder / f"pool-{number}"
            for name in ("work", "tmp", "home"):
                (own / name).mkdir(parents=True)
            port = free_port()
            start = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main"]
            # Of the launcher's environment a pool has what it needs to reach the bucket.
            credentials = ("STORAGE_EMULATOR_HOST", "GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG")
            env = {
                **{name: os.environ[name] for name in credentials if name in os.environ},
                "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
                "TMPDIR": str(own / "tmp"),
                "HOME": str(own / "home"),
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "PYTHONPATH": str(ROOT),
            }
            command = apart([*start, f"--service_port={port}"], hidden)
            pools.append(stack.enter_context(server(command, port, env, own / "work", own / "log")))
            folders.append(own)
            ports.append(port)
        port = free_port()
        command = [sys.executable, "-m", service, "--port", str(port), *more]
        running = stack.enter_context(server(command, port, log=folder / "service.log"))
        front = stack.enter_context(balancer(ports))
        flags = (
            "--runner=PortableRunner", f"--job_endpoint=localhost:{port}", "--environment_type=EXTERNAL",
            f"--environment_config=localhost:{front}", "--direct_num_workers=2",
        )  # fmt: skip
        yield Pools(flags, pools, running, folders)


@pytest.mark.parametrize("mode", ["multi_threading", "multi_processing"])
def test_both_local_modes(plain: Place, launcher: Path, mode: str):
    place = Place(plain.images, plain.points, plain.model, str(launcher / mode))
    run_all(place, ["--direct_num_workers=2", f"--direct_running_mode={mode}"], launcher)
    assert place.bytes() == plain.bytes()


def test_prism(plain: Place, launcher: Path):
    place = Place(plain.images, plain.points, plain.model, str(launcher / "prism"))
    run_all(place, ["--runner=PrismRunner", f"--prism_location={tool('prism')}"], launcher)
    assert place.bytes() == plain.bytes()


def test_two_worker_pools_share_only_the_bucket(
    plain: Place, remote: Place, launcher: Path, real_data: Path, tmp_path: Path
):
    with pools_and_service(tmp_path, (launcher, real_data)) as pools:
        run_all(remote, pools.flags, launcher)
    assert remote.bytes() == plain.bytes()
    for own in pools.folders:
        seen = (own / "work" / "seen").read_text()
        assert [line for line in seen.splitlines() if line and not line.endswith(":")] == []
        assert started(own) >= len(STEPS)
    assert any(launcher.iterdir())


def test_beams_own_job_service_gives_the_same_map(
    plain: Place, remote: Place, launcher: Path, tmp_path: Path
):
    forget_map(remote)
    with pools_and_service(tmp_path, (launcher,), BEAM_SERVICE) as pools:
        done = run(remote.command(CLASSIFY), pools.flags, launcher)
    assert done.returncode == 0, done.stderr
    assert storage.read_bytes(remote.map) == storage.read_bytes(plain.map)


def test_a_pool_killed_in_mid_run_ends_the_run_and_the_next_one_completes_it(
    plain: Place, remote: Place, launcher: Path, tmp_path: Path
):
    forget_map(remote)
    with pools_and_service(tmp_path / "first", (launcher,)) as pools:
        status, told, seconds = kill_when(
            lambda: tiles_in(remote) >= 5, remote, pools.flags, pools.pools[:1], launcher
        )
    assert status == 1
    assert told.splitlines()[-1].startswith("error: a worker ended in mid-run, or never came")
    assert "Traceback" not in told
    assert seconds < SECONDS
    committed = tiles_in(remote)
    assert 5 <= committed < TILES
    with pools_and_service(tmp_path / "second", (launcher,)) as pools:
        done = run(remote.command(CLASSIFY), pools.flags, launcher)
    assert done.returncode == 0, done.stderr
    record = json.loads(storage.read_text(remote.map + ".run.json"))
    assert record["reused"] == committed
    assert storage.read_bytes(remote.map) == storage.read_bytes(plain.map)


def test_a_pool_killed_before_its_worker_reports_ends_the_run(
    remote: Place, launcher: Path, tmp_path: Path
):
    """Beam's own job service would wait for ever."""
    forget_map(remote)
    with pools_and_service(tmp_path, (launcher,), more=("--patience", "10")) as pools:
        status, told, seconds = kill_when(
            lambda: any(started(own) for own in pools.folders), remote, pools.flags, pools.pools, launcher
        )
    assert status == 1
    # The second worker may have been asked for just before the pools went, or just after.
    ends = ("error: a worker ended in mid-run, or never came", "error: the worker pool at localhost:")
    assert told.splitlines()[-1].startswith(ends)
    assert seconds < SECONDS


def test_a_job_service_killed_in_mid_run_ends_the_run(remote: Place, launcher: Path, tmp_path: Path):
    forget_map(remote)
    with pools_and_service(tmp_path, (launcher,)) as pools:
        status, told, seconds = kill_when(
            lambda: tiles_in(remote) >= 5, remote, pools.flags, [pools.service], launcher
        )
    assert status == 1
    assert told.splitlines()[-1].startswith("error: the job service went away in mid-run")
    assert "Traceback" not in told
    assert seconds < SECONDS


def test_a_pool_that_is_not_there_is_told(remote: Place, launcher: Path, tmp_path: Path):
    forget_map(remote)
    with pools_and_service(tmp_path, (launcher,)) as pools:
        for pool in pools.pools:
            end(pool)
        done = run(remote.command(CLASSIFY), pools.flags, launcher, timeout=SECONDS + 60)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the worker pool at localhost:")


def kill_when(
    ready: Callable[[], bool],
    place: Place,
    flags: Sequence[str],
    pools: Sequence[subprocess.Popen[bytes]],
    launcher: Path,
) -> tuple[int, str, float]:
    """Start step 4 and kill pools when it is ready: exit status, stderr, and seconds from kill to end."""
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.cli", *place.command(CLASSIFY), *flags],
        cwd=launcher, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment(launcher),
    ) as process:  # fmt: skip
        deadline = time.monotonic() + 300
        while not ready() and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.02)
        assert process.poll() is None, process.communicate()
        for pool in pools:
            end(pool)
        killed = time.monotonic()
        try:
            told = process.communicate(timeout=2 * SECONDS)[1]
        finally:
            process.kill()
        return process.returncode, told, time.monotonic() - killed


def started(pool: Path) -> int:
    """How many workers a pool has started."""
    return (pool / "log").read_text().count("Starting worker with command")


def tiles_in(place: Place) -> int:
    """How many tiles of the map are committed."""
    return sum(entry.path.endswith(".tif") for entry in storage.list_files(place.map + ".parts"))


def forget_map(place: Place) -> None:
    """Remove the map and all that a run could start from."""
    for ending in ("", ".json", ".run.json"):
        storage.remove(place.map + ending)
    storage.remove_tree(place.map + ".parts")
    if not storage.exists(storage.join(place.output, "series", "series.json")):
        assert dlts(place.command(STACK)) == 0
