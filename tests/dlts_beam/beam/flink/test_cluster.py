"""What the master tells, and one sentence for each way in which it cannot be used."""

from __future__ import annotations

import socket
import threading

import pytest

from dlts_beam.beam.flink.cluster import SUPPORTED, is_this_machine, look_at, master_url
from dlts_beam.errors import DltsError
from tests.dlts_beam.beam.flink.fake import FakeMaster


def closed_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_cluster_tells_version_slots_and_hosts(master: FakeMaster):
    cluster = look_at(master.address)
    assert (cluster.url, cluster.version, cluster.slots, cluster.free) == (master.url, "2.2", 4, 4)
    assert cluster.hosts == ("127.0.0.1", "127.0.0.1")
    assert cluster.is_here
    assert not cluster.elastic


def test_the_task_managers_place_is_told(master: FakeMaster):
    master.hosts = ("127.0.0.1", "192.0.2.7")
    assert not look_at(master.url).is_here
    master.hosts = ()
    assert not look_at(master.url).is_here
    master.hosts = ("[::1]",)
    assert look_at(master.url).hosts == ("[::1]",)


@pytest.mark.parametrize("target", ["kubernetes-session", "yarn-session"])
def test_a_cluster_that_grows_by_itself_is_known(master: FakeMaster, target: str):
    master.settings["execution.target"] = target
    assert look_at(master.url).elastic


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("flink-rest:8081", "http://flink-rest:8081"),
        (" http://10.0.0.1:8081/ ", "http://10.0.0.1:8081"),
        ("https://flink.example.org/proxy", "https://flink.example.org/proxy"),
        ("[::1]:8081", "http://[::1]:8081"),
    ],
)
def test_masters_are_hosts_or_urls(given: str, url: str):
    assert master_url(given) == url


@pytest.mark.parametrize("given", ["", "http://", "host:port", ":8081", "a b:1"])
def test_other_masters_are_refused(given: str):
    with pytest.raises(DltsError) as caught:
        master_url(given)
    assert str(caught.value) == f"--flink_master needs HOST:PORT, such as 127.0.0.1:8081; got {given!r}"


def test_a_master_out_of_reach():
    port = closed_port()
    with pytest.raises(DltsError) as caught:
        look_at(f"127.0.0.1:{port}")
    assert str(caught.value) == (
        f"cannot reach the Flink master at http://127.0.0.1:{port} (Connection refused): start the cluster,"
        " or give the address of its REST service with --flink_master HOST:PORT"
    )


def test_an_unknown_host():
    with pytest.raises(DltsError, match=r"^cannot reach the Flink master at http://nowhere\.invalid:8081 \("):
        look_at("nowhere.invalid:8081")


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ({"raw": {"/v1/config": b"<html>"}}, "GET /v1/config gives no JSON"),
        ({"raw": {"/v1/config": b"\xff\xfe{"}}, "GET /v1/config gives no JSON"),
        ({"status": {"/v1/overview": 404}}, "GET /v1/overview gives status 404"),
        ({"raw": {"/v1/overview": b"{}"}}, "its answer lacks 'slots-total'"),
        ({"raw": {"/v1/config": b"[]"}}, "its answer lacks list indices must be integers or slices, not str"),
    ],
)
def test_something_else_that_answers(master: FakeMaster, answer: dict, why: str):
    for name, value in answer.items():
        setattr(master, name, value)
    with pytest.raises(DltsError) as caught:
        look_at(master.url)
    assert str(caught.value) == (
        f"{master.url} does not answer as a Flink master does ({why}): give the address of the REST service"
        " (usually port 8081) with --flink_master HOST:PORT"
    )


def test_something_that_does_not_even_speak_http():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def answer() -> None:
            connection, _ = server.accept()
            connection.recv(1000)
            connection.sendall(b"\0\0\x12\4\0")  # how gRPC begins
            connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(DltsError, match=r"as a Flink master does \(GET /v1/config gives no HTTP\): "):
            look_at(f"127.0.0.1:{port}")


@pytest.mark.parametrize("version", ["1.18.1", "2.3.0"])
def test_a_version_that_beam_does_not_know(master: FakeMaster, version: str):
    master.version = version
    with pytest.raises(DltsError) as caught:
        look_at(master.url)
    assert str(caught.value) == (
        f"the cluster at {master.url} runs Flink {version}, and Apache Beam 2.77.0 works with"
        f" {', '.join(SUPPORTED)}: use a cluster of one of these versions"
    )


@pytest.mark.parametrize(
    ("host", "here"),
    [("127.0.0.1", True), ("localhost", True), ("192.0.2.7", False), ("no-such-host.invalid", False)],
)
def test_hosts_of_this_machine_are_known(host: str, here: bool):
    assert is_this_machine(host) is here
