"""Presets: the defaults of teacher and students for logs of some size; every setting can still be given."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

AUTO = "auto"
"""The preset that the number of training rows decides."""


@dataclass(frozen=True)
class Preset:
    """What differs from the defaults of the dataclasses in :mod:`pipeline.settings`.

    Args:
        below: number of training rows from which on the log is for the next preset.
        teacher: settings of the teacher.
        student: settings of all students.
        methods: settings of the student of one method.
    """

    below: float
    teacher: Mapping[str, Any] = field(default_factory=dict)
    student: Mapping[str, Any] = field(default_factory=dict)
    methods: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


# Without a teacher's targets, a small log is learnt by heart sooner.
_HARD = {"field_dropout": 0.0, "epochs": 6.0, "embedding_l2": 1e-5}

# Rows repeat little in a large log: few epochs, and in the largest little dropout, wider tables, and pairs of columns
# that are learnt from their embeddings. That one follows the protocol of the published Criteo benchmarks (BARS; Zhu et
# al., SIGIR 2022): Adam at 1e-3, batches of 4096, 16 floats, layers of 400, dropout of 0.1 to 0.2, a tenth of the rate
# on a plateau.
PRESETS = {
    "100k": Preset(below=300_000, methods={"hard": _HARD, "hard_k": _HARD}),
    "1m": Preset(
        below=10_000_000,
        # Of 18 trials of `tune` on 1M generated rows: valid logloss .47772, where two epochs at half the rate, with
        # dropout of .4 and layers of 512 and 256, came to .47871.
        teacher={
            "min_count": 8,
            "learning_rate": 3e-3,
            "epochs": 3.3,
            "patience": 4,
            "table_rate": 0.55,
            "embedding_l2": 0.0,
            "embedding_dropout": 0.82,
            "linear_dropout": 0.45,
            "field_dropout": 0.03,
            "cross_layers": 3,
            "hidden": (128,),
            "dropout": 0.24,
            "smoothing": 10.0,
            "crosses": 50,
            "averaging": 0.0,
        },
        student={
            "batch_size": 2048,
            "learning_rate": 4e-3,
            "epochs": 5.0,
            "patience": 4,
            "embedding_dropout": 0.3,
            "field_dropout": 0.0,
            "averaging": 0.999,
        },
    ),
    "40m": Preset(
        below=float("inf"),
        teacher={
            "min_count": 10,
            "batch_size": 4096,
            "learning_rate": 1e-3,
            "epochs": 3.0,
            "evaluations": 4,
            "patience": 4,
            "schedule": "plateau",
            "table_rate": 1.0,
            "embedding_dim": 16,
            "embedding_dropout": 0.1,
            "linear_dropout": 0.0,
            "cross_layers": 3,
            "cross_rank": 64,
            "hidden": (400, 400, 400),
            "dropout": 0.1,
            "averaging": 0.999,
        },
        student={
            "min_count": 10,
            "batch_size": 4096,
            "learning_rate": 2e-3,
            "epochs": 3.0,
            "evaluations": 4,
            "patience": 4,
            "schedule": "plateau",
            "table_rate": 1.0,
            "embedding_dim": 8,
            "hidden": 64,
            "embedding_dropout": 0.0,
            "field_dropout": 0.0,
            "averaging": 0.999,
        },
    ),
}
"""The presets by name, from the smallest logs to the largest."""


def preset_for(rows: int) -> str:
    """The name of the preset for a number of training rows."""
    return next(name for name, preset in PRESETS.items() if rows < preset.below)
