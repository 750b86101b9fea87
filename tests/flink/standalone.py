"""A real standalone Flink and a worker pool on this machine: installed from PyPI, started, killed, ended."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import yaml

from dlts_beam.beam.flink.cluster import Cluster, look_at
from dlts_beam.errors import DltsError

VERSION = "2.2.0"
ROOT = Path(__file__).parent.parent.parent
CONFIG = ROOT / "deploy" / "flink" / "config.yaml"
_START_SECONDS = 120
# Flink's scripts work these out; a process that is started without them must be told each.
_MEMORY = {
    "taskmanager.cpu.cores": "1",
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "64m",
    "taskmanager.memory.task.heap.size": "192m",
    "taskmanager.memory.task.off-heap.size": "0m",
    "taskmanager.memory.managed.size": "64m",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.jvm-metaspace.size": "256m",
    "taskmanager.memory.jvm-overhead.min": "192m",
    "taskmanager.memory.jvm-overhead.max": "192m",
}


def install(cache: Path) -> Path:
    """Flink's jars in a folder of ``cache``, fetched with pip where they are not there yet."""
    place = cache / VERSION
    if not place.is_dir():
        fresh = place.with_name(f".tmp-{os.getpid()}-{VERSION}")
        wanted = f"apache-flink-libraries=={VERSION}"
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps",
             "--target", str(fresh), wanted],
            check=True,
        )  # fmt: skip
        fresh.rename(place)
    return place / "pyflink"


def java_options() -> list[str]:
    """What Flink's own scripts, which are not used here, would pass to Java: it is in the settings."""
    options: str = yaml.safe_load(CONFIG.read_text())["env.java.opts.all"]
    return options.split()


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Standalone:
    """A job manager, task managers and a worker pool, each a process of its own; a context that ends them."""

    def __init__(self, flink: Path, folder: Path) -> None:
        self._flink, self._folder = flink, folder
        self._processes: list[subprocess.Popen[bytes]] = []
        self.managers: list[subprocess.Popen[bytes]] = []
        self.pool_port = free_port()
        rest, rpc = free_port(), free_port()
        self.master = f"127.0.0.1:{rest}"
        settings = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": str(rpc),
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": str(rest),
            "taskmanager.host": "127.0.0.1",
            "io.tmp.dirs": str(folder / "tmp"),
            **_MEMORY,
        }
        self.conf = folder / "conf"
        self.conf.mkdir(parents=True)
        (folder / "tmp").mkdir()
        lines = [f"{key}: {value}" for key, value in settings.items()]
        (self.conf / "config.yaml").write_text(CONFIG.read_text() + "\n" + "\n".join(lines) + "\n")

    def __enter__(self) -> Standalone:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self._processes:
            _end(process)

    @property
    def pool(self) -> str:
        """The worker pool's address."""
        return f"localhost:{self.pool_port}"

    def start(self, managers: int) -> Cluster:
        """Start everything; gives the cluster as REST tells of it once all slots are there."""
        entry = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        self._java("job-manager", "512m", entry, "--executionMode", "cluster")
        for _ in range(managers):
            self.start_manager()
        self.start_pool()
        return self.wait_for(managers)

    def start_manager(self) -> None:
        """One more task manager."""
        name = f"task-manager-{len(self.managers)}"
        entry = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
        self.managers.append(self._java(name, "320m", entry))

    def kill_manager(self) -> None:
        """Kill the task manager that was started last, as a machine that goes away does."""
        process = self.managers.pop()
        process.kill()
        process.wait()

    def start_pool(self) -> None:
        """A worker pool in a working folder of its own, as on another machine."""
        folder = self._folder / "pool"
        folder.mkdir()
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        command = [sys.executable, "-m", "apache_beam.runners.worker.worker_pool_main"]
        self._start("pool", [*command, f"--service_port={self.pool_port}"], folder, {"PATH": path})

    def wait_for(self, slots: int) -> Cluster:
        """The cluster, once it has this many free slots.

        Raises:
            DltsError: it does not come up.
        """
        deadline = time.monotonic() + _START_SECONDS
        while True:
            for process in self._processes:
                if process.poll() is not None and process not in self._killed():
                    raise DltsError(f"a process of Flink ended at once; see the logs in {self._folder}")
            try:
                cluster = look_at(self.master)
                if cluster.slots == cluster.free == slots:
                    return cluster
                seen = f"{cluster.free} of {cluster.slots} slots"
            except DltsError as error:
                seen = str(error)
            if time.monotonic() > deadline:
                raise DltsError(f"Flink did not come up in {_START_SECONDS} s ({seen}): see {self._folder}")
            time.sleep(0.5)

    def log_tail(self) -> str:
        """The last lines of every process's log."""
        logs = sorted(self._folder.glob("*.log"))
        return "\n".join(f"== {log.name}\n" + "\n".join(log.read_text().splitlines()[-15:]) for log in logs)

    def _killed(self) -> list[subprocess.Popen[bytes]]:
        return [process for process in self._processes if process.returncode == -signal.SIGKILL]

    def _java(self, name: str, heap: str, entry: str, *arguments: str) -> subprocess.Popen[bytes]:
        command = [str(find_java()), f"-Xmx{heap}", *java_options(), "-cp", f"{self._flink}/lib/*", entry]
        command += ["--configDir", str(self.conf), *arguments]
        return self._start(name, command, self._folder, {"FLINK_CONF_DIR": str(self.conf)})

    def _start(
        self, name: str, command: list[str], folder: Path, more: dict[str, str]
    ) -> subprocess.Popen[bytes]:
        with open(self._folder / f"{name}.log", "wb") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, cwd=folder, env={**os.environ, **more},
                start_new_session=True,
            )  # fmt: skip
        self._processes.append(process)
        return process


def find_java() -> str:
    """The Java that PATH or JAVA_HOME names.

    Raises:
        DltsError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin" if home else None)
    if java is None:
        raise DltsError("there is no Java: install Java 17, which Flink runs on")
    return java


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process with the workers that it started."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, how)
        except ProcessLookupError:
            break
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            continue
    process.wait()
