from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.trainer.helpers import make_fake, write_fake
from trainer.__main__ import main
from trainer.cli import parse_args
from trainer.setup import make_setup


@pytest.mark.parametrize(
    ("flags", "members"),
    [
        (("--model", "auto"), 3),
        (("--model", "auto", "--model-config", '{"ltae_width": 16}'), 3),
        (("--model", "auto", "--model-config", '{"members": 1}'), 1),
        (("--model", "auto", "--model-config", '{"members": 1}', "--members", "3"), 3),
        (("--model", "ltae_mlp", "--model-config", '{"members": 2}'), 2),
        (("--model", "ltae_mlp", "--model-config", '{"members": 2}', "--members", "4"), 4),
        (("--model", "ltae_mlp"), 1),
    ],
)
def test_the_user_says_how_many_members_there_are(
    tmp_path: Path, flags: tuple[str, ...], members: int
) -> None:
    write_fake(tmp_path / "s", make_fake((4, 4)))
    args = parse_args(["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), *flags])
    assert make_setup(args).config["members"] == members


def test_the_model_says_how_many_members_it_has(tmp_path: Path) -> None:
    write_fake(tmp_path / "s", make_fake((8, 8)))
    config = {"members": 1, "ltae_width": 16, "mlp_units": 8, "forest_trees": 5}
    flags = ["-i", str(tmp_path / "s"), "-o", str(tmp_path / "m"), "--model", "auto", "--no-random-forest"]
    flags += ["-e", "1", "--min-updates", "0", "--model-config", json.dumps(config)]
    assert main(flags) == 0
    model = json.loads((tmp_path / "m" / "model.json").read_text())
    assert model["config"]["members"] == model["settings"]["members"] == 1
    assert "members_given" not in model["settings"]
