"""What ``--model auto`` stands for: the architecture and settings that do best on the real sets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

AUTO = "auto"
# One configuration for five real sets; how it was chosen stands in docs/accuracy.md. No validation split: the
# learning rate falls to 0 and the last epoch is the model, so every sample can train.
AUTO_FLAGS: Mapping[str, Any] = {
    "model": "ltae_mlp_forest",
    "members": 3,
    "epochs": 80,
    "min_updates": 800,
    "max_updates": 6000,
    "batch_size": 32,
    "learning_rate": 0.001,
    "optimizer": "adamw",
    "weight_decay": 0.0001,
    "lr_decay": "cosine",
    "warmup": 0.05,
    "label_smoothing": 0.05,
    "validation_split": 0.0,
}
