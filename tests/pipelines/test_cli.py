"""The ``dlts`` command: quick help, lazy dispatch, one sentence for failures."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
import types

import pytest

from dlts_beam.errors import DltsError
from pipelines import cli
from pipelines._main import run_beam_main, run_main

HEAVY = (
    "apache_beam",
    "tensorflow",
    "keras",
    "rasterio",
    "geopandas",
    "onnxruntime",
    "tfx_bsl",
    "google.cloud.storage",
)


def fresh(code: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a fresh interpreter."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


def loaded_by(arguments: list[str]) -> tuple[set[str], str, float]:
    """(heavy modules loaded, output, seconds) of ``dlts ARGUMENTS`` in a fresh interpreter."""
    code = f"""
import sys
from pipelines.cli import main
try:
    main({arguments!r})
except SystemExit as end:
    assert end.code in (0, None), end.code
sys.stdout.flush()
print("LOADED", *(name for name in {HEAVY!r} if name in sys.modules), file=sys.stderr)
"""
    start = time.perf_counter()
    done = fresh(code)
    seconds = time.perf_counter() - start
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("LOADED")[2].split()), done.stdout, seconds


def test_help_lists_every_command_and_loads_nothing_heavy():
    loaded, text, seconds = loaded_by(["--help"])
    assert loaded == set()
    for command in cli.COMMANDS:
        assert f"  {command.name} " in text
        assert command.help in text
    assert seconds < 1


@pytest.mark.parametrize("command", [command.name for command in cli.COMMANDS])
def test_each_command_s_help_loads_nothing_heavy(command: str):
    loaded, text, _ = loaded_by([command, "--help"])
    assert loaded == set()
    assert "usage:" in text


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("dlts-beam 0.")


def test_no_command_shows_the_help_and_fails(capsys: pytest.CaptureFixture[str]):
    assert cli.main([]) == 2
    assert "commands:" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "hint"), [("generate-serie", "did you mean generate-series?"), ("xyz", "dlts --help lists")]
)
def test_an_unknown_command_is_refused(name: str, hint: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main([name]) == 2
    assert capsys.readouterr().err.startswith(f"error: unknown command {name}: {hint}")


def test_arguments_and_status_are_handed_over(monkeypatch: pytest.MonkeyPatch):
    seen: list[str] = []

    def fake_main(argv: list[str]) -> int:
        seen.extend(argv)
        return 3

    stand_in = types.ModuleType("pipelines.demo")
    stand_in.main = fake_main
    monkeypatch.setitem(sys.modules, "pipelines.demo", stand_in)
    assert cli.main(["demo", "--keep", "x"]) == 3
    assert seen == ["--keep", "x"]


@pytest.mark.parametrize("command", ["train-model", "tune"])
def test_a_crash_has_a_status_that_no_refusal_has(command: str):
    module = next(each.module for each in cli.COMMANDS if each.name == command)
    code = f"""
import sys, types
from pipelines import cli

def main(argv):
    raise MemoryError("no room on the GPU")

sys.modules[{module!r}] = types.SimpleNamespace(main=main)
sys.argv = ["dlts", {command!r}]
cli.run()
"""
    done = fresh(code)
    assert done.returncode == 70
    assert done.stderr.endswith("MemoryError: no room on the GPU\n")


def one_flag() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dlts test")
    parser.add_argument("-i", "--input-dir", required=True)
    return parser


def test_a_failure_is_one_sentence(capsys: pytest.CaptureFixture[str]):
    def body(arguments: argparse.Namespace) -> int:
        raise DltsError(f"no images in {arguments.input_dir}; check --input-dir")

    assert run_main(one_flag, body, ["-i", "scene"]) == 1
    assert capsys.readouterr().err == "error: no images in scene; check --input-dir\n"


def test_ctrl_c_is_130():
    def body(arguments: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    assert run_main(one_flag, body, ["-i", "scene"]) == 130


def test_a_defect_is_not_hidden():
    def body(arguments: argparse.Namespace) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_main(one_flag, body, ["-i", "scene"])


def test_beam_commands_pass_further_flags_on():
    def body(arguments: argparse.Namespace, options: object) -> None:
        assert arguments.input_dir == "scene"
        assert options.get_all_options()["direct_num_workers"] == 3

    assert run_beam_main(one_flag, body, ["--direct_num_workers=3", "-i", "scene"]) == 0


@pytest.mark.parametrize("flag", ["--input", "--input_dir", "--input-dirs"])
def test_beam_commands_refuse_unknown_flags(flag: str, capsys: pytest.CaptureFixture[str]):
    assert run_beam_main(one_flag, lambda arguments, options: None, ["-i", "a", flag, "b"]) == 1
    assert capsys.readouterr().err == f"error: unknown flag {flag}: did you mean --input-dir?\n"


def test_beam_commands_tell_of_beam_s_flags(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as end:
        run_beam_main(one_flag, lambda arguments, options: None, ["--help"])
    assert end.value.code == 0
    assert "--direct_num_workers" in capsys.readouterr().out
