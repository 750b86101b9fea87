"""What a lock tells of the process that holds it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from dlts_beam.storage import holder


@pytest.fixture
def dead() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def mine(**changed: Any) -> dict[str, Any]:
    return {**holder.parse(holder.describe_me("token")), **changed}


def test_a_round_trip() -> None:
    assert mine()["process"] == os.getpid()
    assert mine()["token"] == "token"
    assert holder.tell(mine(host="there")) == f"process {os.getpid()} on there"
    for half_written in (b"", b'{"host": "th', b"7"):
        assert holder.parse(half_written) == {}
    assert holder.tell({}) == "it does not say which"


def test_a_process_of_this_machine_is_known_to_live_or_to_be_dead(dead: int) -> None:
    assert holder.lives(mine()) is True
    assert holder.lives(mine(process=dead)) is False
    assert holder.lives(mine(born="1")) is False  # its number is used again


@pytest.mark.parametrize("key", ["host", "boot", "namespace"])
def test_nothing_is_known_of_a_process_of_another_machine_boot_or_container(key: str, dead: int) -> None:
    assert holder.lives(mine(process=dead, **{key: "another"})) is None
    assert holder.lives(mine(**{key: "another"})) is None


def test_a_lock_that_does_not_tell_its_container_proves_nothing(dead: int) -> None:
    if holder._place()["boot"] is None:
        pytest.skip("this system tells nothing of containers")
    old = {key: value for key, value in mine(process=dead).items() if key in ("host", "process", "born")}
    assert holder.lives(old) is None
    assert holder.lives({}) is None


def test_without_proc_the_host_name_has_to_do(dead: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(holder, "_BOOT", "/nowhere/boot_id")
    monkeypatch.setattr(holder, "_NAMESPACE", "/nowhere/pid")
    assert json.loads(holder.describe_me())["boot"] is None
    assert holder.lives(mine()) is True
    assert holder.lives(mine(process=dead)) is False
    assert holder.lives(mine(process=dead, host="another")) is None
