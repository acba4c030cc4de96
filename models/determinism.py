"""The same bits at every training."""

from __future__ import annotations

from models.backend import tf


def enable() -> None:
    """Makes TensorFlow's operations deterministic and fixes its threads; call it before anything else runs.

    Sums over threads otherwise depend on how the machine divides the work.
    """
    tf.config.threading.set_inter_op_parallelism_threads(1)
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.experimental.enable_op_determinism()
