"""The calibration of a model on the validation rows of a run, and how it is written down."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np

from models.backend import keras, tf
from models.calibration import Calibration, fit_calibration
from models.heads import click_logit
from models.inputs import ShardFiles, evaluation_batches


def calibrate(model: keras.Model, validation: ShardFiles) -> Calibration:
    """Fits the map of a model's click logits to the labels of validation rows, weighted if they are.

    Args:
        model: gives subclass logits [batch, 2 S] of a batch (see :mod:`models.inputs`).
        validation: shards of at least one row.
    """
    return fit_calibration(*judged_logits(model, validation))


def judged_logits(model: keras.Model, files: ShardFiles) -> tuple[np.ndarray, ...]:
    """Click logits float32 [rows], labels [rows] and, of a log with weights, weights [rows].

    Args:
        model: as that of :func:`calibrate`.
        files: shards of at least one row.
    """
    call = tf.autograph.experimental.do_not_convert(lambda batch: click_logit(model(batch, training=False)))
    score = tf.function(call, reduce_retracing=True)
    names = ("label", "weight") if files.weighted else ("label",)
    batches = [(score(batch).numpy(), *(batch[name].numpy() for name in names)) for batch in evaluation_batches(files)]
    return tuple(np.concatenate(parts) for parts in zip(*batches, strict=True))


def calibration_json(calibration: Calibration) -> dict[str, Any]:
    """Plain values; ``Calibration(**values)`` reads them."""
    return dataclasses.asdict(calibration)


def mean_calibration(calibrations: Sequence[Calibration]) -> Calibration:
    """What the mean of several calibrated click logits has been through, were they equal before."""
    if len(calibrations) == 1:
        return calibrations[0]
    scale, shift = (float(np.mean([getattr(each, name) for each in calibrations])) for name in ("scale", "shift"))
    return Calibration(scale, shift, "mean of the calibrations of several teachers")
