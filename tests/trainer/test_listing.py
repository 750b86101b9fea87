from __future__ import annotations

from trainer.listing import model_table
from trainer.models import ARCHITECTURES, ModelShape


def test_every_model_is_listed_with_its_cost() -> None:
    lines = model_table(ModelShape(4, 2, 3, 3)).splitlines()
    assert [line.split()[0] for line in lines[2:]] == list(ARCHITECTURES)
    for line in lines[2:]:
        parameters, cost = line.split()[1:3]
        assert int(parameters.replace(",", "")) > 1000
        assert float(cost) > 0
