"""The one place that imports TensorFlow, tf-keras and TensorFlow Recommenders.

TensorFlow Recommenders needs Keras 2 (tf-keras); TensorFlow reads the switch for it on first use, so the variable
is set here before the import. Everything else writes ``from models.backend import keras, tf, tfrs``.
"""

from __future__ import annotations

import os

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf  # noqa: E402
import tf_keras as keras  # noqa: E402

if tf.keras.__version__.startswith("3"):
    raise ImportError(
        "TensorFlow must use tf-keras (Keras 2), but Keras 3 is already active. Set TF_USE_LEGACY_KERAS=1 before "
        f"TensorFlow is imported. Received: Keras {tf.keras.__version__}."
    )

import tensorflow_recommenders as tfrs  # noqa: E402

__all__ = ["keras", "tf", "tfrs"]
