from __future__ import annotations

from tests.trainer.serving.agreement import make_model
from trainer.export import serving_model
from trainer.models import ModelShape, find_architecture
from trainer.serving.cost import count_flops


def test_flops_of_lstm_are_counted_by_hand() -> None:
    steps, bands, units, classes, batch = 5, 3, 8, 4, 16
    shape = ModelShape(steps, bands, 1, classes)
    model = make_model("lstm", shape, {"units": units})
    served = serving_model(model, find_architecture("lstm"), shape, batch)
    first = 3 * units * (bands + 1)  # no forget gate in the first step; the bias is a row of the weights
    later = (steps - 1) * 4 * units * (units + bands + 1)
    assert count_flops(served) == 2 * batch * (first + later + units * classes)
