"""What replicas make of their parts of a batch, in a process that has two devices."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from models.backend import tf
from models.replicas import first_rows

ROOT = Path(__file__).parents[2]

# Each replica has half of the rows; the terms and the slopes of the whole batch are the sums of theirs.
TWO_REPLICAS = """
import dataclasses
import numpy as np
from models.backend import tf
from models.student_terms import StudentTerms, TermSettings
from pipeline.config import narrow
from pipeline.settings import StudentConfig

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
rng = np.random.default_rng(0)
batch = {
    "label": rng.integers(2, size=20).astype(np.float32),
    "targets": rng.normal(size=(20, 6)).astype(np.float32),
    "embedding": rng.normal(size=(20, 4)).astype(np.float32),
    "weight": rng.integers(1, 4, size=20).astype(np.float32),
}
given = {**batch, "p": rng.random(20).astype(np.float32), "z": rng.normal(size=(20, 2)).astype(np.float32),
         "deep": rng.normal(size=(20, 3)).astype(np.float32)}
changes = dict(ranking=1.0, similarity=1.0, relations=1.0, ranking_rows=12, relation_rows=12, relations_negatives=3)
settings = dataclasses.replace(narrow(StudentConfig(), TermSettings), **changes)

def terms_and_slopes(model, rows):
    with tf.GradientTape() as tape:
        tape.watch([rows["deep"], rows["z"]])
        terms = model.weighted({name: rows[name] for name in batch}, rows["p"], rows["deep"], rows["z"], None)
        total = tf.add_n(terms)
    return tf.stack(terms), *tape.gradient(total, [rows["deep"], rows["z"], model.projection.kernel])

def make():
    model = StudentTerms(settings, 4, seed=1)
    model.projection(tf.zeros([0, 3]))
    return model

# The first rows of each half are those that two replicas compare.
order = [*range(6), *range(10, 16), *range(6, 10), *range(16, 20)]
one = terms_and_slopes(make(), {name: tf.constant(value[order]) for name, value in given.items()})
strategy = tf.distribute.MirroredStrategy(["/cpu:0", "/cpu:1"], tf.distribute.ReductionToOneDevice())
with strategy.scope():
    model = make()
halves = strategy.experimental_distribute_values_from_function(
    lambda context: {name: tf.constant(np.split(value, 2)[context.replica_id_in_sync_group])
                     for name, value in given.items()})
parts = tf.function(lambda rows: strategy.run(lambda own: terms_and_slopes(model, own), args=(rows,)))(halves)
terms, deep, z, kernel = (strategy.experimental_local_results(part) for part in parts)
np.testing.assert_allclose(sum(terms), one[0], rtol=1e-5)
np.testing.assert_allclose(sum(kernel), one[3], rtol=1e-4, atol=1e-7)
# A row's slope comes back to its own replica, from both.
np.testing.assert_allclose(np.concatenate(deep), one[1].numpy()[np.argsort(order)], rtol=1e-4, atol=1e-7)
np.testing.assert_allclose(np.concatenate(z), one[2].numpy()[np.argsort(order)], rtol=1e-4, atol=1e-7)
"""


def test_two_replicas_have_the_terms_and_slopes_of_the_whole_batch() -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", TWO_REPLICAS], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_first_rows_of_one_replica() -> None:
    x = tf.reshape(tf.range(10), [5, 2])
    np.testing.assert_array_equal(first_rows(x, 3), x[:3])
    np.testing.assert_array_equal(first_rows(x, 30), x)
