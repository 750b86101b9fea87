"""The table of ``--list-models``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.models import ARCHITECTURES, Architecture, ModelShape, build_model, find_architecture
from trainer.recipes import AUTO, AUTO_FLAGS


def model_table(shape: ModelShape) -> str:
    """Every architecture, and ``auto``, with its parameters and the cost of its serving model.

    Architectures have their default sizes.

    Args:
        shape: what the models are built for; a pixel model takes its centre.

    Returns:
        Lines of text: name, parameters, MFLOP per pixel, what it is.
    """
    sizes = (
        f"{shape.time_steps} time steps, {shape.bands} bands, patch {shape.patch}, {shape.classes} classes"
    )
    recommended, members = find_architecture(AUTO_FLAGS["model"]), AUTO_FLAGS["members"]
    lines = [
        f"for {sizes}:",
        f"{'model':15s} {'parameters':>11s} {'MFLOP/pixel':>12s}  what it is",
        *(_row(name, one, shape, {}, one.summary) for name, one in ARCHITECTURES.items()),
        _row(
            AUTO,
            recommended,
            shape,
            {"members": members},
            f"recommended: {recommended.name} --members {members}, with the training that suits it",
        ),
        "MFLOP are those of the networks: the trees of a forest compare and are not counted",
    ]
    return "\n".join(lines)


def _row(
    name: str, architecture: Architecture, shape: ModelShape, sizes: Mapping[str, Any], what: str
) -> str:
    from trainer.export import serving_model
    from trainer.serving.cost import count_flops

    fitted = architecture.fit_shape(shape)
    model = build_model(architecture.name, fitted, sizes)
    served = serving_model(model, architecture, fitted, architecture.batch)
    cost = count_flops(served) / architecture.batch / 1e6
    return f"{name:15s} {model.count_params():11,d} {cost:12.2f}  {what}"
