"""The one place that imports TensorFlow, tf-keras and TensorFlow Recommenders.

TensorFlow Recommenders needs Keras 2 (tf-keras); TensorFlow reads the switch for it on first use, so the variable
is set here before the import. Everything else writes ``from models.backend import keras, tf, tfrs``.
"""

from __future__ import annotations

import os

from models.native_log import without_device_notes

os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
# Errors reach Python as exceptions; below them the native log only says which devices are absent.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

with without_device_notes():
    import tensorflow as tf
    import tf_keras as keras

    if tf.keras.layers.Layer is not keras.layers.Layer:
        raise ImportError(
            "TensorFlow must use tf-keras (Keras 2). Received: Keras 3, already active; set TF_USE_LEGACY_KERAS=1 "
            "before TensorFlow is imported."
        )

    import tensorflow_recommenders as tfrs

# Its warnings speak of retraced functions and other inner matters; what is wrong is raised.
tf.get_logger().setLevel("ERROR")

__all__ = ["keras", "tf", "tfrs"]
