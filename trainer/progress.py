"""What a training has reached, and the checkpoint that lets it go on after it was killed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from dlts_beam import storage
from dlts_beam.errors import DltsError
from dlts_beam.spec.model import SAVED_MODELS
from trainer.kept import digest_of_kept, keep, kept

CHECKPOINT = "checkpoint.npz"
Weights = list[NDArray[Any]]


@dataclass
class Progress:
    """What one branch has reached; a model without branches is its own only branch.

    Attributes:
        branch: its name.
        history: one row per finished epoch.
        best: weights of the ``last`` epoch and of those with the best ``acc`` and ``loss``.
        best_epoch: the numbers of these epochs, from 1.
    """

    branch: str
    history: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Weights] = field(default_factory=dict)
    best_epoch: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class State:
    """A checkpoint: finished branches, the one in work, and all that its next epoch depends on.

    ``variables`` and ``optimizer`` are the branch's own, the states of its random generators included. Once
    all branches are finished, the last one is the current one, and both are empty: no epoch comes next.
    """

    done: list[Progress]
    current: Progress
    variables: Weights
    optimizer: Weights

    @property
    def is_finished(self) -> bool:
        """Whether all branches are finished."""
        return not self.variables


def finished(done: Sequence[Progress]) -> State:
    """The state once all branches, one or more, are finished."""
    return State(list(done[:-1]), done[-1], [], [])


def set_branches(branches: Sequence[keras.Model], reached: Sequence[Progress], name: str) -> None:
    """Give every branch the weights of its ``last``, ``acc`` or ``loss`` epoch."""
    for branch, progress in zip(branches, reached, strict=True):
        branch.set_weights(progress.best[name])


def epochs_of(reached: Sequence[Progress], name: str) -> tuple[int, ...]:
    """The epoch of each branch that ``last``, ``acc`` or ``loss`` stands for: equal ones are equal models."""
    return tuple(progress.best_epoch[name] for progress in reached)


def capture(
    model: keras.Model, optimizer: keras.Optimizer, done: Sequence[Progress], current: Progress
) -> State:
    """The state at the end of an epoch."""
    variables, of_optimizer = values_of(model.variables), values_of(optimizer.variables)
    return State(list(done), current, variables, of_optimizer)


def restore(model: keras.Model, optimizer: keras.Optimizer, state: State) -> None:
    """Put a model and its optimizer back to where they were."""
    assign_all(model.variables, state.variables)
    assign_all(optimizer.variables, state.optimizer)


def values_of(variables: Sequence[Any]) -> Weights:
    """The variables' values."""
    return [np.asarray(variable) for variable in variables]


def assign_all(variables: Sequence[Any], values: Weights) -> None:
    """Give the variables these values, in order."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def state_digest(state: State | None) -> str:
    """SHA-256 of what a training goes on from; text of its own where it starts."""
    if state is None:
        return "no checkpoint"
    reached = [*state.done, state.current]
    best = [values for one in reached for name in sorted(one.best) for values in one.best[name]]
    history = [[one.branch, one.history] for one in reached]
    return digest_of_kept(history, [*best, *state.variables, *state.optimizer])


def save_checkpoint(path: str, key: str, state: State) -> None:
    """Write it whole or not at all; ``key`` tells which training it belongs to."""
    arrays: dict[str, NDArray[Any]] = {}

    def put(prefix: str, values: Weights) -> int:
        arrays.update({f"{prefix}/{number}": value for number, value in enumerate(values)})
        return len(values)

    branches = []
    for number, progress in enumerate([*state.done, state.current]):
        counts = {name: put(f"{number}/{name}", progress.best[name]) for name in progress.best}
        branches.append(
            {
                "branch": progress.branch,
                "history": progress.history,
                "best_epoch": progress.best_epoch,
                "counts": counts,
            }
        )
    meta = {
        "branches": branches,
        "variables": put("variables", state.variables),
        "optimizer": put("optimizer", state.optimizer),
    }
    keep(path, key, meta, arrays)


def load_checkpoint(path: str, key: str) -> State | None:
    """The state of a training that was interrupted; None where there is none, or one of another training.

    Raises:
        DltsError: the file is damaged.
    """
    with kept(path, key, "the training starts") as found:
        if found is None:
            return None
        meta, arrays = found

        def take(prefix: str, count: int) -> Weights:
            return [arrays[f"{prefix}/{number}"] for number in range(count)]

        reached = [
            Progress(
                branch["branch"],
                branch["history"],
                {
                    name: take(f"{number}/{name}", branch["counts"][name])
                    for name in SAVED_MODELS
                    if name in branch["counts"]
                },
                branch["best_epoch"],
            )
            for number, branch in enumerate(meta["branches"])
        ]
        variables, optimizer = take("variables", meta["variables"]), take("optimizer", meta["optimizer"])
        return State(reached[:-1], reached[-1], variables, optimizer)


def are_of_another(paths: Sequence[str], key: str) -> bool:
    """Whether an interrupted training left such files, and none of them is of the training of that key."""
    there = [path for path in paths if storage.exists(path)]
    return bool(there) and all(_is_of_another(path, key) for path in there)


def _is_of_another(path: str, key: str) -> bool:
    try:
        with kept(path, key, "the training starts") as found:
            return found is None
    except DltsError:  # damaged: whoever needs it tells of that
        return False
