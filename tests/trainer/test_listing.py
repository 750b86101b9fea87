from __future__ import annotations

import pytest

from trainer.__main__ import main
from trainer.models import ARCHITECTURES


def test_every_model_is_listed_with_its_cost(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["--list-models"])
    assert stop.value.code == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[2:-1]] == [*ARCHITECTURES, "auto"]
    assert "trees of a forest" in lines[-1]
    for line in lines[2:-1]:
        parameters, cost = line.split()[1:3]
        assert int(parameters.replace(",", "")) > 1000
        assert float(cost) > 0
