"""Subclass logits against SciPy and hand values; the head's start, linear part and serialisation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.special import expit, log_softmax, logit, logsumexp, softmax

from models.backend import keras, tf
from models.heads import ReusedHead, SubclassHead, calibrated, class_logits, click_logit, within_class_log_probabilities

SHAPES = st.tuples(st.integers(1, 5), st.integers(1, 6).map(lambda subclasses: 2 * subclasses))
LOGITS = hnp.arrays(np.float32, SHAPES, elements=st.floats(-100, 100, width=32))


def random_logits(rows: int = 50, subclasses: int = 5, scale: float = 2.0, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=(rows, 2 * subclasses)) * scale).astype(np.float32)


def test_hand_values() -> None:
    z = np.log([[1.0, 2.0, 3.0, 4.0]])
    np.testing.assert_allclose(class_logits(z), np.log([[3.0, 7.0]]), rtol=1e-6)
    np.testing.assert_allclose(click_logit(z), [np.log(7 / 3)], rtol=1e-6)
    np.testing.assert_allclose(within_class_log_probabilities(z), np.log([[[1 / 3, 2 / 3], [3 / 7, 4 / 7]]]), rtol=1e-6)


@pytest.mark.parametrize("subclasses", [1, 2, 5, 8])
def test_class_probability_is_the_sum_of_its_subclasses(subclasses: int) -> None:  # A1, A2
    z = random_logits(subclasses=subclasses)
    p_click = softmax(z.astype(np.float64), axis=-1)[:, subclasses:].sum(axis=-1)
    np.testing.assert_allclose(tf.nn.softmax(class_logits(z))[:, 1], p_click, rtol=1e-5)
    np.testing.assert_allclose(tf.sigmoid(click_logit(z)), p_click, rtol=1e-5)


def test_one_subclass_is_the_difference_bit_for_bit() -> None:
    z = random_logits(rows=1000, subclasses=1, scale=30.0)
    np.testing.assert_array_equal(class_logits(z), z)
    np.testing.assert_array_equal(click_logit(z), z[:, 1] - z[:, 0])
    np.testing.assert_array_equal(within_class_log_probabilities(z), np.zeros([1000, 2, 1]))


@settings(deadline=None, max_examples=50)
@given(z=LOGITS)
def test_agrees_with_scipy_in_float64(z: np.ndarray) -> None:
    blocks = z.astype(np.float64).reshape(len(z), 2, -1)
    classes = logsumexp(blocks, axis=-1)
    np.testing.assert_allclose(class_logits(z), classes, rtol=1e-6, atol=1e-5)
    np.testing.assert_allclose(click_logit(z), classes[:, 1] - classes[:, 0], rtol=1e-6, atol=3e-5)
    np.testing.assert_allclose(within_class_log_probabilities(z), log_softmax(blocks, axis=-1), rtol=1e-6, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(z=LOGITS, shift=st.floats(-50, 50, width=32))
def test_moving_a_class_block_moves_the_click_logit_only(z: np.ndarray, shift: float) -> None:
    subclasses = z.shape[1] // 2
    moved = z + np.repeat(np.float32([0.0, shift]), subclasses)
    np.testing.assert_allclose(click_logit(moved) - click_logit(z), np.full(len(z), shift), atol=2e-4)
    np.testing.assert_allclose(within_class_log_probabilities(moved), within_class_log_probabilities(z), atol=5e-5)
    np.testing.assert_allclose(click_logit(z + np.float32(shift)), click_logit(z), atol=2e-4)


def test_calibrated_by_hand() -> None:
    z = np.log(np.float32([[1.0, 2.0, 3.0, 4.0]]))
    # The click logit is log(7/3); twice it plus 1 is more by log(7/3) + 1, half for each class.
    half = (np.log(7 / 3) + 1) / 2
    np.testing.assert_allclose(calibrated(z, 2.0, 1.0), z + [[-half, -half, half, half]], rtol=1e-6)


def test_calibrated_by_a_shift_of_each_row() -> None:
    z, shifts = random_logits(), np.linspace(-3, 3, 50, dtype=np.float32)
    moved = calibrated(z, 1.0, shifts)
    np.testing.assert_allclose(click_logit(moved) - click_logit(z), shifts, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(z=LOGITS, scale=st.floats(0.5, 2, width=32), shift=st.floats(-5, 5, width=32))
def test_calibrated_maps_the_click_logit_only(z: np.ndarray, scale: float, shift: float) -> None:
    moved = calibrated(z, scale, shift)
    np.testing.assert_allclose(click_logit(moved), scale * click_logit(z) + shift, atol=1e-3)
    np.testing.assert_allclose(within_class_log_probabilities(moved), within_class_log_probabilities(z), atol=1e-4)


def test_calibration_by_nothing_changes_no_bit() -> None:
    z = random_logits(rows=1000)
    np.testing.assert_array_equal(calibrated(z, tf.Variable(1.0), tf.Variable(0.0)), z)


@pytest.mark.parametrize("function", [class_logits, click_logit, within_class_log_probabilities])
def test_extreme_logits_have_finite_values_and_gradients(function) -> None:
    z = tf.constant([[100.0, -100.0, 100.0, -100.0], [-1e4, -1e4, 1e4, 1e4], [1e30, 0.0, -1e30, 0.0]])
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = function(z)
    assert np.isfinite(value).all()
    assert np.isfinite(tape.gradient(value, z)).all()


def test_click_logit_gradient_is_the_conditional() -> None:
    z = tf.constant(random_logits())
    with tf.GradientTape() as tape:
        tape.watch(z)
        value = click_logit(z)
    conditional = softmax(z.numpy().astype(np.float64).reshape(-1, 2, 5), axis=-1)
    expected = (conditional * [[-1.0], [1.0]]).reshape(-1, 10)
    np.testing.assert_allclose(tape.gradient(value, z), expected, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_computes_in_float32(dtype: type) -> None:
    z = random_logits().astype(dtype)
    assert click_logit(z).dtype == tf.float32
    np.testing.assert_allclose(
        expit(click_logit(z)), softmax(z.astype(np.float64), axis=-1)[:, 5:].sum(axis=-1), rtol=1e-5
    )


def test_empty_batch() -> None:
    assert click_logit(tf.zeros([0, 6])).shape == [0]
    assert within_class_log_probabilities(tf.zeros([0, 6])).shape == [0, 2, 3]


@pytest.mark.parametrize("shape", [[4], [3, 5], [3, 1], [3, 0], [2, 2, 2]])
def test_rejects_shapes_that_are_not_two_blocks(shape: list[int]) -> None:
    with pytest.raises(ValueError, match=r"`z` should have shape \[batch, 2 \* S\].*Received: shape="):
        class_logits(tf.zeros(shape))


def test_unknown_batch_size_in_a_graph() -> None:
    traced = tf.function(click_logit, input_signature=[tf.TensorSpec([None, 10])])
    z = random_logits()
    np.testing.assert_allclose(traced(z), click_logit(z), rtol=1e-6)
    with pytest.raises(ValueError, match="`z` should have shape"):
        tf.function(click_logit).get_concrete_function(tf.TensorSpec([None, None]))


@pytest.mark.parametrize("subclasses", [1, 2, 5])
@pytest.mark.parametrize("base_rate", [0.001, 0.2562, 0.5])
def test_head_starts_at_the_base_rate(subclasses: int, base_rate: float) -> None:
    head = SubclassHead(subclasses, base_rate, seed=1)
    z = head(tf.zeros([3, 8]))
    assert z.shape == [3, 2 * subclasses]
    np.testing.assert_allclose(tf.sigmoid(click_logit(z)), [base_rate] * 3, rtol=1e-5)
    np.testing.assert_allclose(head.bias[subclasses:], [logit(base_rate)] * subclasses, rtol=1e-6)
    np.testing.assert_array_equal(head.bias[:subclasses], [0.0] * subclasses)


def test_head_is_dense() -> None:
    x = np.random.default_rng(0).normal(size=(7, 8)).astype(np.float32)
    head = SubclassHead(3, 0.25, seed=1)
    z = head(x)
    np.testing.assert_allclose(z, x @ head.kernel.numpy() + head.bias.numpy(), atol=1e-6)
    assert [w.shape.as_list() for w in head.trainable_weights] == [[8, 6], [6]]


def test_head_kernel_comes_from_the_seed_and_is_never_zero() -> None:
    def kernel(seed: int) -> np.ndarray:
        head = SubclassHead(2, 0.25, seed=seed)
        head.build([None, 16])
        return head.kernel.numpy()

    np.testing.assert_array_equal(kernel(3), kernel(3))
    assert not np.array_equal(kernel(3), kernel(4))
    assert np.count_nonzero(kernel(3)) == kernel(3).size
    assert np.ptp(kernel(3), axis=1).min() > 0  # a row of equal logits would be a dead start


def test_head_linear_part_moves_the_click_logit_only() -> None:
    x = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    linear = np.float32([0.0, 1.5, -2.0, 10.0])
    head = SubclassHead(5, 0.25, seed=1)
    without, with_linear = head(x), head(x, linear)
    np.testing.assert_array_equal(with_linear[:, :5], without[:, :5])
    np.testing.assert_allclose(click_logit(with_linear) - click_logit(without), linear, atol=1e-5)
    np.testing.assert_allclose(
        within_class_log_probabilities(with_linear), within_class_log_probabilities(without), atol=1e-5
    )


def test_head_linear_part_learns_the_click_logit_gradient() -> None:
    x, linear = tf.ones([4, 8]), tf.Variable([0.1, 0.2, 0.3, 0.4])
    head = SubclassHead(5, 0.25, seed=1)
    with tf.GradientTape() as tape:
        p_click = tf.sigmoid(click_logit(head(x, linear)))
    p = p_click.numpy()
    np.testing.assert_allclose(tape.gradient(p_click, linear), p * (1 - p), rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"subclasses": 0}, "`subclasses` should be .* Received: subclasses=0"),
        ({"subclasses": 2.0}, "`subclasses` should be .* Received: subclasses=2.0"),
        ({"subclasses": True}, "`subclasses` should be .* Received: subclasses=True"),
        ({"base_rate": 0.0}, "`base_rate` should be .* Received: base_rate=0.0"),
        ({"base_rate": 1.0}, "`base_rate` should be .* Received: base_rate=1.0"),
        ({"base_rate": float("nan")}, "`base_rate` should be .* Received: base_rate=nan"),
        ({"seed": None}, "`seed` should be an integer. Received: seed=None"),
    ],
)
def test_head_rejects_bad_arguments(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SubclassHead(**{"subclasses": 2, "base_rate": 0.25, "seed": 1, **arguments})


def test_head_rejects_bad_shapes() -> None:
    head = SubclassHead(2, 0.25, seed=1)
    with pytest.raises(ValueError, match=r"`x` should have shape \[batch, width\]"):
        head(tf.zeros([3]))
    with pytest.raises(ValueError, match=r"`linear` should have shape \[batch\].*Received: shape=\(3, 1\)"):
        head(tf.zeros([3, 8]), tf.zeros([3, 1]))
    with pytest.raises(ValueError, match="expected axis -1"):
        head(tf.zeros([3, 9]))


def test_head_config_round_trip() -> None:
    head = SubclassHead(4, 0.2562, seed=11, name="head")
    copy = SubclassHead.from_config(head.get_config())
    assert copy.get_config() == head.get_config()
    x = tf.ones([2, 8])
    np.testing.assert_array_equal(copy(x), head(x))


def test_head_model_round_trip(tmp_path) -> None:
    x, linear = keras.Input([8]), keras.Input([])
    model = keras.Model([x, linear], SubclassHead(4, 0.25, seed=11)(x, linear))
    batch = [tf.random.stateless_normal([5, 8], [1, 2]), tf.range(5, dtype=tf.float32)]
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(batch), model(batch))


def test_head_stays_in_float32_under_mixed_precision() -> None:
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        z = SubclassHead(2, 0.25, seed=1)(tf.ones([3, 8], tf.bfloat16), tf.ones([3], tf.bfloat16))
    finally:
        keras.mixed_precision.set_global_policy(before)
    assert z.dtype == tf.float32


def teacher_head() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    return rng.normal(size=(3, 6)).astype(np.float32), rng.normal(size=6).astype(np.float32)


def test_reused_head_projects_and_classifies() -> None:
    x = np.random.default_rng(0).normal(size=(7, 8)).astype(np.float32)
    kernel, bias = teacher_head()
    head = ReusedHead(kernel, bias, seed=1)
    z = head(x)
    assert head.subclasses == 3 and z.shape == (7, 6) and z.dtype == tf.float32
    embedding = x @ head.kernel.numpy() + head.bias.numpy()
    np.testing.assert_allclose(head.project(x), embedding, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(z, embedding @ kernel + bias, rtol=1e-5, atol=1e-5)


def test_reused_head_trains_the_projection_alone() -> None:
    head = ReusedHead(*teacher_head(), seed=1)
    head(tf.zeros([1, 8]))
    assert [w.shape.as_list() for w in head.trainable_weights] == [[8, 3], [3]]
    for found, given_value in zip(head.non_trainable_weights, teacher_head(), strict=True):
        np.testing.assert_array_equal(found, given_value)


def test_reused_head_linear_part_moves_the_click_logit_only() -> None:
    x, linear = np.ones([4, 8], np.float32), np.float32([0.0, 1.5, -2.0, 10.0])
    head = ReusedHead(*teacher_head(), seed=1)
    without, with_linear = head(x), head(x, linear)
    np.testing.assert_array_equal(with_linear[:, :3], without[:, :3])
    np.testing.assert_allclose(click_logit(with_linear) - click_logit(without), linear, atol=1e-5)


def test_reused_head_of_the_teachers_embedding_is_the_teacher() -> None:
    """With a projection that is the identity, its logits are the teacher's."""
    h, (kernel, bias) = np.random.default_rng(1).normal(size=(9, 3)).astype(np.float32), teacher_head()
    head = ReusedHead(kernel, bias, seed=1)
    head(h)
    head.kernel.assign(np.eye(3))
    np.testing.assert_allclose(head(h), h @ kernel + bias, rtol=1e-5, atol=1e-5)


def test_reused_head_is_exported_whole(tmp_path) -> None:
    head = ReusedHead(*teacher_head(), seed=1)
    x = tf.random.stateless_normal([5, 8], [1, 2])
    expected = head(x)
    module = tf.Module()
    module.head = head
    module.call = tf.function(head, input_signature=[tf.TensorSpec([None, 8])])
    tf.saved_model.save(module, str(tmp_path))
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_array_equal(loaded.call(x), expected)


@pytest.mark.parametrize(("kernel", "bias"), [([3, 5], [5]), ([3, 6], [4]), ([6], [6]), ([3, 0], [0])])
def test_reused_head_rejects_other_shapes(kernel: list[int], bias: list[int]) -> None:
    with pytest.raises(ValueError, match="`teacher_kernel` and `teacher_bias` should have shapes .* Received: shapes="):
        ReusedHead(np.zeros(kernel, np.float32), np.zeros(bias, np.float32), seed=1)
