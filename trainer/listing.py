"""The table of ``--list-models``."""

from __future__ import annotations

from trainer.models import ARCHITECTURES, ModelShape, build_model


def model_table(shape: ModelShape) -> str:
    """Every architecture with its parameters and the cost of its serving model, at its default sizes.

    Args:
        shape: what the models are built for; a pixel model takes its centre.

    Returns:
        Lines of text: name, million parameters, MFLOP per pixel, what it is.
    """
    from trainer.export import serving_model
    from trainer.serving.cost import count_flops

    sizes = (
        f"{shape.time_steps} time steps, {shape.bands} bands, patch {shape.patch}, {shape.classes} classes"
    )
    lines = [
        f"for {sizes}:",
        f"{'model':15s} {'parameters':>11s} {'MFLOP/pixel':>12s}  what it is",
    ]
    for name, architecture in ARCHITECTURES.items():
        fitted = architecture.fit_shape(shape)
        model = build_model(name, fitted)
        served = serving_model(model, architecture, fitted, architecture.batch)
        cost = count_flops(served) / architecture.batch / 1e6
        lines.append(f"{name:15s} {model.count_params():11,d} {cost:12.2f}  {architecture.summary}")
    return "\n".join(lines)
