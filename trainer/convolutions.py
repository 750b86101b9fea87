"""Two convolutions with nothing between them, as the one convolution that they are.

Import this module before loading a saved model that has such a layer.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


def combine_kernels(first: Any, second: Any) -> Any:
    """The kernel that does what two do one after the other.

    What ``second`` takes from row u of what ``first`` gives comes from rows u to u + 2 of its inputs, so that
    the products of row u and row p of the kernels add up in row u + p; the same holds for columns.

    Args:
        first: (D, 3, 3, B, C).
        second: (1, 3, 3, C, F).

    Returns:
        (D, 5, 5, B, F).
    """
    products = ops.einsum("dpqbc,xuvcf->uvdpqbf", first, second)
    shifted = [
        ops.pad(products[u, v], ((0, 0), (u, 2 - u), (v, 2 - v), (0, 0), (0, 0)))
        for u in range(3)
        for v in range(3)
    ]
    return sum(shifted[1:], shifted[0])


@keras.saving.register_keras_serializable(package="dlts_beam")
class TwoConvolutions(keras.layers.Layer):
    """A convolution padded with zeros in time and space, then one of one date and without padding.

    Takes ``(batch, T, P, P, B)``, P at least 3, and gives ``(batch, T, P - 2, P - 2, filters)``. The kernels,
    3 x 3 pixels each, are trained as the two that they are, and are multiplied out before they meet a patch:
    a batch then costs a fraction of the arithmetic, since the second kernel is by far the larger one and
    the first would be evaluated at P x P positions.

    Args:
        filters: of each convolution.
        depth: dates that the first one spans.
    """

    def __init__(self, filters: int, depth: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.filters, self.depth = int(filters), int(depth)

    def build(self, input_shape: tuple[int | None, ...]) -> None:
        """Makes the weights, as two `keras.layers.Conv3D` would."""
        wide = self.filters
        self.kernel1 = self.add_weight(name="kernel1", shape=(self.depth, 3, 3, input_shape[-1], wide))
        self.bias1 = self.add_weight(name="bias1", shape=(wide,), initializer="zeros")
        self.kernel2 = self.add_weight(name="kernel2", shape=(1, 3, 3, wide, wide))
        self.bias2 = self.add_weight(name="bias2", shape=(wide,), initializer="zeros")
        self.built = True

    def call(self, inputs: Any) -> Any:
        """(batch, T, P, P, B) to (batch, T, P - 2, P - 2, filters)."""
        kernel = combine_kernels(self.kernel1, self.kernel2)
        beside = 1
        if inputs.shape[2] == 3:
            # Its outer rows and columns would see nothing but padding.
            kernel, beside = kernel[:, 1:4, 1:4], 0
        # Of an even number of dates one more lies after than before, as in Keras.
        before = (self.depth - 1) // 2
        dates, pixels = (before, self.depth - 1 - before), (beside, beside)
        padded = ops.pad(inputs, ((0, 0), dates, pixels, pixels, (0, 0)))
        bias = self.bias2 + ops.einsum("c,xuvcf->f", self.bias1, self.kernel2)
        return ops.conv(padded, kernel, padding="valid") + bias

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Two pixels less to a side."""
        batch, steps, rows, columns, _ = input_shape
        return (batch, steps, int(rows or 0) - 2, int(columns or 0) - 2, self.filters)

    def get_config(self) -> dict[str, Any]:
        """The layer's settings."""
        return {**super().get_config(), "filters": self.filters, "depth": self.depth}
