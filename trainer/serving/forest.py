"""The serving graph of trees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from dlts_beam.spec import ServingSpec
from trainer.layers import Trees
from trainer.serving.graph import TREES_DOMAIN, Graph

QUANTUM = 2.0**-24


def forest(graph: Graph, pixels: str, trees: Trees, spec: ServingSpec, scale: float) -> str:
    """``scale`` times what `trainer.layers.Trees` gives: (N, K), as one node of the runtime's own.

    The runtime adds up the trees in an order that depends on its threads. What they add is therefore rounded
    to multiples of 2 ** -24: float32 holds every sum of them below 1 exactly, so all orders give the same.
    Only the splits that a tree has are written, not the places of the full layout.

    Args:
        graph: where to.
        pixels: the name of values (N, B * T), bands first; the layer's features have them last.
        trees: the layer.
        spec: the shapes.
        scale: what its answer is multiplied by.
    """
    nodes: dict[str, list[Any]] = {
        name: []
        for name in ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids")
    }
    targets: dict[str, list[Any]] = {name: [] for name in ("treeids", "nodeids", "ids", "weights")}
    feature, threshold, share = trees.get_weights()
    step, band = np.divmod(feature.astype(np.int64), spec.bands)
    feature = band * spec.time_steps + step
    for tree in range(trees.trees):
        for number, place, children in _walk(threshold[tree]):
            nodes["treeids"].append(tree)
            nodes["nodeids"].append(number)
            nodes["truenodeids"].append(children[0] if children else 0)
            nodes["falsenodeids"].append(children[1] if children else 0)
            nodes["modes"].append("BRANCH_LEQ" if children else "LEAF")
            nodes["featureids"].append(int(feature[tree, place]) if children else 0)
            nodes["values"].append(float(threshold[tree, place]) if children else 0.0)
            if not children:
                shares = share[tree, place - len(threshold[tree])].astype(np.float64) * scale / trees.trees
                shares = np.round(shares / QUANTUM) * QUANTUM
                for class_id in np.flatnonzero(shares):
                    targets["treeids"].append(tree)
                    targets["nodeids"].append(number)
                    targets["ids"].append(int(class_id))
                    targets["weights"].append(float(shares[class_id]))
    return graph.add(
        "TreeEnsembleRegressor",
        pixels,
        domain=TREES_DOMAIN,
        n_targets=spec.classes,
        aggregate_function="SUM",
        post_transform="NONE",
        **{f"nodes_{name}": values for name, values in nodes.items()},
        **{f"target_{name}": values for name, values in targets.items()},
    )


def _walk(threshold: np.ndarray) -> Iterator[tuple[int, int, tuple[int, int] | None]]:
    """The nodes of one tree: number, place in the layout, numbers of the children (None for a leaf)."""
    highest = np.finfo(np.float32).max

    def settle(place: int) -> int:
        """Past the splits that let everything through to the left."""
        while place < len(threshold) and threshold[place] == highest:
            place = 2 * place + 1
        return place

    waiting, count = [(0, settle(0))], 1
    while waiting:
        number, place = waiting.pop()
        if place >= len(threshold):
            yield number, place, None
            continue
        children = (count, count + 1)
        count += 2
        yield number, place, children
        waiting.append((children[1], settle(2 * place + 2)))
        waiting.append((children[0], settle(2 * place + 1)))
