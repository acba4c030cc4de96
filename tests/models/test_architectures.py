"""Each architecture against NumPy; gates and fusion by hand; what depends on the seed."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from features.errors import ConfigError
from models.architectures import ARCHITECTURES, ArchitectureSettings, BilinearFusion, FeatureGate, Outputs, build_body
from models.backend import keras, tf

COLUMNS, DIM, NUMBERS = 4, 3, 5
SETTINGS = ArchitectureSettings(
    subclasses=2,
    embedding_dim=DIM,
    embedding_sizes="equal",
    cross_layers=2,
    cross_rank=0,
    hidden=(8, 6),
    dropout=0.0,
    precision="float32",
)


def make_inputs(rows: int = 7, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return tuple(rng.normal(size=(rows, width)).astype(np.float32) for width in (COLUMNS * DIM, NUMBERS))


def make_body(name: str, seed: int = 0, **values: Any) -> keras.layers.Layer:
    """A body with random variables; biases and gates would else be zero."""
    body = build_body(name, dataclasses.replace(SETTINGS, **values), seed)
    body(*map(tf.constant, make_inputs()))
    rng = np.random.default_rng(1)
    for variable in body.trainable_variables:
        variable.assign(variable + rng.normal(0, 0.3, variable.shape).astype(np.float32))
    return body


def affine(layer: keras.layers.Dense, x: np.ndarray) -> np.ndarray:
    return x @ layer.kernel.numpy().astype(np.float64) + layer.bias.numpy()


def hidden(layers: Any, x: np.ndarray) -> np.ndarray:
    for layer in layers.layers:
        x = np.maximum(affine(layer, x), 0)
    return x


def mlp(body: Any, embedding: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    return hidden(body.hidden, np.hstack([embedding, numbers]))


def dcn(body: Any, embedding: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    x = first = np.hstack([embedding, numbers])
    for layer in body.cross:
        *kernels, bias = (weight.numpy() for weight in layer.trainable_variables)
        x = first * (x @ np.linalg.multi_dot([*kernels, np.eye(x.shape[1])]) + bias) + x
    return np.hstack([x, hidden(body.hidden, first)])


def dlrm(body: Any, embedding: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    bottom = affine(body.projection, hidden(body.bottom, numbers))
    columns = [*np.split(embedding, COLUMNS, axis=1), bottom]
    dots = [(columns[i] * columns[j]).sum(axis=1) for i in range(len(columns)) for j in range(i)]
    return hidden(body.hidden, np.hstack([bottom, np.stack(dots, axis=1)]))


def finalmlp(body: Any, embedding: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    x, streams = np.hstack([embedding, numbers]), []
    for gate, stream, context in zip(body.gates, body.streams, (np.ones([1, 1]), numbers), strict=True):
        weight = affine(gate.weight, np.maximum(affine(gate.context, context), 0))
        streams.append(hidden(stream, 2 / (1 + np.exp(-weight)) * x))
    return np.hstack(streams)


REFERENCES = {"mlp": mlp, "dcn": dcn, "dlrm": dlrm, "finalmlp": finalmlp}


@pytest.mark.parametrize(
    ("name", "values"),
    [(name, {}) for name in ARCHITECTURES]
    + [("dcn", {"cross_rank": 2}), ("dcn", {"cross_layers": 1}), ("dlrm", {"hidden": ()}), ("mlp", {"hidden": ()})],
)
def test_agrees_with_numpy(name: str, values: dict[str, Any]) -> None:
    body, inputs = make_body(name, **values), make_inputs()
    outputs = body(*map(tf.constant, inputs))
    assert outputs.hidden.dtype == tf.float32
    np.testing.assert_allclose(outputs.hidden, REFERENCES[name](body, *inputs), rtol=1e-4, atol=1e-5)
    assert (outputs.logits is not None) == (name == "finalmlp")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_products_in_bfloat16_give_float32(name: str) -> None:
    exact, rounded = (make_body(name, precision=precision) for precision in ("float32", "bfloat16"))
    assert {variable.dtype for variable in rounded.variables} <= {tf.float32, tf.int64}
    expected, found = (body(*make_inputs()).hidden.numpy() for body in (exact, rounded))
    assert found.dtype == np.float32 and (found != expected).any()
    np.testing.assert_allclose(found, expected, rtol=0.1, atol=0.02 * np.abs(expected).max())


def test_without_cross_layers_dcn_is_mlp() -> None:
    inputs = make_inputs()
    expected, found = (make_body(name, cross_layers=0)(*inputs).hidden for name in ("mlp", "dcn"))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("width", "units"), [(6, 6), (64, 64), (80, 40), (67, 1)])
def test_fusion_is_bilinear_in_each_head(width: int, units: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, width)).astype(np.float32)
    fusion = BilinearFusion(4, seed=0)
    found = fusion(tf.constant(x), tf.constant(y)).numpy()
    matrices = fusion.kernel.numpy().reshape(width // units, units, units, 4)
    for row in range(3):
        for output in range(4):
            parts = [slice(head * units, (head + 1) * units) for head in range(width // units)]
            terms = [x[row, p] @ matrices[h, :, :, output] @ y[row, p] for h, p in enumerate(parts)]
            assert found[row, output] == pytest.approx(sum(terms), rel=1e-4, abs=1e-5)


def test_the_logits_of_finalmlp_are_the_fusion_of_its_streams() -> None:
    body, inputs = make_body("finalmlp"), make_inputs()
    outputs = body(*inputs)
    first, second = np.split(outputs.hidden.numpy(), 2, axis=1)
    assert outputs.logits.shape == (7, 4)
    np.testing.assert_allclose(outputs.logits, body.fusion(first, second), rtol=1e-5)


def test_a_gate_starts_open_and_weighs_rows_by_their_context() -> None:
    x, context = np.ones([2, 3], np.float32), np.float32([[1, 0], [0, 1]])
    gate = FeatureGate(seed=0)
    np.testing.assert_array_equal(gate(x, context), x)
    gate.weight.bias.assign([0.0, 50.0, -50.0])
    np.testing.assert_allclose(gate(x, context), [[1, 2, 0]] * 2, atol=1e-6)
    gate.weight.kernel.assign(np.ones(gate.weight.kernel.shape))
    weights = gate(x, context).numpy()[:, 0]
    assert weights[0] != weights[1]


def test_gates_of_finalmlp_see_nothing_and_the_numbers() -> None:
    body, (embedding, numbers) = make_body("finalmlp"), make_inputs()
    # Inputs of 0 stay 0 under any gate, so that only the gates can tell these rows apart.
    inputs = np.hstack([embedding, np.zeros_like(numbers)])
    one = body.gates[0](inputs, tf.ones([1, 1])) / inputs
    other = body.gates[1](inputs, numbers) / inputs
    assert np.ptp(one[:, : COLUMNS * DIM], axis=0).max() < 1e-5
    assert np.ptp(other[:, : COLUMNS * DIM], axis=0).min() > 1e-3


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_gradients_reach_all_weights(name: str) -> None:
    body = make_body(name)
    with tf.GradientTape() as tape:
        outputs = body(*make_inputs(60))
        total = tf.reduce_sum(tf.square(outputs.hidden))
        total += 0.0 if outputs.logits is None else tf.reduce_sum(outputs.logits)
    for variable, gradient in zip(
        body.trainable_variables, tape.gradient(total, body.trainable_variables), strict=True
    ):
        assert gradient is not None and np.abs(gradient).max() > 0, variable.name


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_initial_weights_come_from_the_seed(name: str) -> None:
    def kernels(seed: int) -> list[np.ndarray]:
        body = build_body(name, SETTINGS, seed)
        body(*make_inputs())
        found = [variable.numpy() for variable in body.trainable_variables if "kernel" in variable.name]
        return [kernel for kernel in found if kernel.any()]  # a gate's last kernel is zero

    one, same, other = kernels(3), kernels(3), kernels(4)
    for kernel, again, another in zip(one, same, other, strict=True):
        np.testing.assert_array_equal(kernel, again)
        assert (kernel != another).any()
    # No two layers of one shape start from the same weights.
    assert len({kernel.tobytes() for kernel in one}) == len(one)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_drops_out_in_training_only(name: str) -> None:
    body, inputs = make_body(name, dropout=0.5), make_inputs()
    first, second = (body(*inputs, training=False).hidden.numpy() for _ in range(2))
    np.testing.assert_array_equal(first, second)
    third, fourth = (body(*inputs, training=True).hidden.numpy() for _ in range(2))
    assert (first != third).any() and (third != fourth).any()


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("rows", [0, 1])
def test_any_number_of_rows(name: str, rows: int) -> None:
    outputs = make_body(name)(*make_inputs(rows))
    assert all(len(output) == rows for output in outputs if output is not None)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_log_without_numbers(name: str) -> None:
    body = build_body(name, SETTINGS, seed=0)
    outputs: Outputs = body(make_inputs()[0], np.zeros([7, 0], np.float32))
    assert np.isfinite(outputs.hidden).all()


def test_dlrm_refuses_embeddings_of_several_sizes() -> None:
    settings = dataclasses.replace(SETTINGS, embedding_sizes="vocabulary")
    with pytest.raises(ConfigError, match=r"embedding_sizes must be equal for dlrm\. Received: vocabulary\."):
        build_body("dlrm", settings, seed=0)


def test_unknown_architecture() -> None:
    with pytest.raises(ConfigError, match=r"must be one of mlp, dcn, dlrm, finalmlp\. Received: deepfm\."):
        build_body("deepfm", SETTINGS, seed=0)
