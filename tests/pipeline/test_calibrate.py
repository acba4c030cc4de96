from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from small_run import make_run, write_log

from models.backend import keras, tf
from models.calibration import Calibration
from models.inputs import evaluation_batches
from pipeline.calibrate import calibrate, calibration_json, mean_calibration
from pipeline.stage_inputs import example_files


class Price(keras.Model):
    """A model of 2 x 2 subclasses that looks at one column."""

    def call(self, batch: dict[str, tf.Tensor], training: bool = False) -> tf.Tensor:
        x = tf.where(tf.math.is_nan(batch["dense"][:, :1]), 0.0, batch["dense"][:, :1])
        return tf.concat([0.0 * x, 1 + 0.0 * x, 2 * x, -x], axis=1)


def test_the_map_is_that_of_a_weighted_logistic_regression(tmp_path: Path) -> None:
    run = make_run(tmp_path, write_log(tmp_path / "log.csv"))
    files = example_files(run, run.spec(), "valid")
    rows = [{name: value.numpy() for name, value in batch.items()} for batch in evaluation_batches(files)]
    x, y, weight = (np.concatenate([batch[name] for batch in rows]) for name in ("dense", "label", "weight"))
    x = np.nan_to_num(x[:, 0].astype(np.float64))
    logits = np.log((np.exp(2 * x) + np.exp(-x)) / (1 + np.e))
    expected = LogisticRegression(C=np.inf, tol=1e-10).fit(logits[:, None], y, weight)
    found = calibrate(Price(), files)
    assert found.scale == pytest.approx(float(expected.coef_[0, 0]), rel=1e-3)
    assert found.shift == pytest.approx(float(expected.intercept_[0]), rel=1e-3) and found.reason == ""
    assert Calibration(**calibration_json(found)) == found


def test_the_mean_of_one_is_itself_and_of_several_says_so() -> None:
    first, second = Calibration(0.5, 1.0, "no rows"), Calibration(1.5, -2.0)
    assert mean_calibration([first]) is first
    mean = mean_calibration([first, second])
    assert (mean.scale, mean.shift, mean.reason) == (1.0, -0.5, "mean of the calibrations of several teachers")
