"""Publishing while another run takes the lock: its map stays, and no certificate vouches for other bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dlts_beam import storage
from dlts_beam.beam import assembly
from dlts_beam.certificate import Certificate
from dlts_beam.errors import DltsError
from tests.fakes import classify, make_model, random_scene


def lose_at(check: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """From this check of the lock on, 1 for the first, it is another run's."""
    checks: list[str] = []

    @contextmanager
    def held(path: str, what: str) -> Iterator[Callable[[], None]]:
        def look() -> None:
            checks.append(path)
            if len(checks) >= check:
                raise DltsError(f"another run took over {what}")

        yield look

    monkeypatch.setattr(storage, "exclusive", held)


# Before assembling; before the old certificate goes; before the side file; the raster; the new certificate.
@pytest.mark.parametrize(
    ("check", "kept"),
    [
        (1, {"map.tif", "map.tif.aux.xml", "map.tif.json"}),
        (2, {"map.tif", "map.tif.aux.xml", "map.tif.json"}),
        (3, {"map.tif", "map.tif.aux.xml"}),
        (4, {"map.tif"}),
        (5, set()),
    ],
)
def test_a_run_that_lost_its_lock_replaces_nothing_more(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    check: int,
    kept: set[str],
) -> None:
    scene = random_scene(tmp_path / "series", 20, 30)
    folder = tmp_path / "out"
    assert classify(scene, make_model(tmp_path / "model", scene.spec), folder / "map.tif") == 0
    # So that it differs from the one to come.
    (folder / "map.tif.aux.xml").write_text("another run's")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    lose_at(check, monkeypatch)
    other = make_model(tmp_path / "other", scene.spec, reverse=True)
    assert classify(scene, other, folder / "map.tif") == 1
    assert "error: another run took over" in capsys.readouterr().err
    after = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    unchanged = {name for name in before if after.get(name) == before[name]}
    assert unchanged - {"map.tif.run.json"} == kept
    assert (folder / "map.tif.json").exists() == (check <= 2)
    assert list((folder / "map.tif.parts").glob("r*.tif"))


def test_a_certificate_vouches_for_what_was_built_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run's map comes under the name between the renaming and the certificate."""
    scene = random_scene(tmp_path / "series", 20, 30)
    model, output = make_model(tmp_path / "model", scene.spec), tmp_path / "map.tif"
    other = make_model(tmp_path / "other", scene.spec, reverse=True)
    assert classify(scene, other, tmp_path / "other.tif") == 0
    theirs = (tmp_path / "other.tif").read_bytes()
    assemble, built = assembly.assemble, []

    def overtaken(*arguments: Any, **how: Any) -> dict[str, str]:
        digests = assemble(*arguments, **how)
        built.append(hashlib.sha256(output.read_bytes()).hexdigest())
        output.write_bytes(theirs)
        return digests

    with monkeypatch.context() as patch:
        patch.setattr(assembly, "assemble", overtaken)
        assert classify(scene, model, output) == 0
    certificate = Certificate.from_json((tmp_path / "map.tif.json").read_bytes(), "it")
    assert [certificate.files["map.tif"]] == built
    # So the same command sees that the map is not its own, and makes it anew.
    assert classify(scene, model, output) == 0
    assert [hashlib.sha256(output.read_bytes()).hexdigest()] == built
