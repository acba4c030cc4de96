"""What a teacher makes of its inputs before its head: mlp, dcn, dlrm and finalmlp."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

from features.errors import ConfigError
from models.backend import keras, tf, tfrs
from models.dropout import Dropout
from models.layers import HiddenLayers, dense
from models.seeds import seed_for

# A head of bilinear fusion has at most so many units of a stream: its cost grows with their square.
_FUSION_HEAD = 64
# Hidden units between a gate's context and its weights.
_GATE = 64


@dataclass(frozen=True)
class ArchitectureSettings:
    """The shape of a network; ``pipeline.settings.TeacherConfig`` says what each is."""

    subclasses: int
    embedding_dim: int
    embedding_sizes: str
    cross_layers: int
    cross_rank: int
    hidden: tuple[int, ...]
    dropout: float
    precision: str


class Outputs(NamedTuple):
    """What the head gets from a body.

    Attributes:
        hidden: activations, float32 ``[batch, width]``.
        logits: what is added to the head's subclass logits, float32 ``[batch, 2 S]``, class-major; None for nothing.
    """

    hidden: tf.Tensor
    logits: tf.Tensor | None = None


class MLP(keras.layers.Layer):
    """Hidden layers over embeddings and numbers.

    Args:
      settings: The shape.
      seed: Of the initial weights.
    """

    def __init__(self, settings: ArchitectureSettings, seed: int) -> None:
        super().__init__(name="mlp")
        self.hidden = _hidden(settings, seed)

    def call(self, embedding: tf.Tensor, numbers: tf.Tensor, training: bool = False) -> Outputs:
        """``[batch, sum of embedding sizes]`` and ``[batch, numbers]`` to what the head gets."""
        return Outputs(self.hidden(tf.concat([embedding, numbers], axis=1), training=training))


class DCN(keras.layers.Layer):
    """Cross layers beside hidden layers, with low-rank cross matrices.

    Args:
      settings: The shape; without cross layers it is `MLP`.
      seed: Of the initial weights.

    References:
      Wang et al., DCN V2 (2021), https://arxiv.org/abs/2008.13535
    """

    def __init__(self, settings: ArchitectureSettings, seed: int) -> None:
        super().__init__(name="dcn")
        self.cross = [
            tfrs.layers.dcn.Cross(
                projection_dim=settings.cross_rank or None,
                kernel_initializer=keras.initializers.GlorotUniform(seed_for(seed, f"cross_{index}")),
                name=f"cross_{index}",
            )
            for index in range(settings.cross_layers)
        ]
        self.cross_dropout = Dropout(settings.dropout, seed, "cross_dropout")
        self.hidden = _hidden(settings, seed)

    def call(self, embedding: tf.Tensor, numbers: tf.Tensor, training: bool = False) -> Outputs:
        """As `MLP.call`."""
        inputs = x = tf.concat([embedding, numbers], axis=1)
        for layer in self.cross:
            x = self.cross_dropout(layer(inputs, x), training=training)
        deep = self.hidden(inputs, training=training)
        return Outputs(tf.concat([x, deep], axis=1) if self.cross else deep)


class DLRM(keras.layers.Layer):
    """Hidden layers over the dot products of all pairs of columns; the numbers count as one column.

    Formula: ``d = dense(relu(numbers))`` with as many floats as an embedding, then hidden layers over
    ``concat(d, v_i . v_j for i > j)``, ``v`` being the columns' embeddings and ``d``. The hidden layer below the
    projection has the first of the hidden widths.

    Args:
      settings: The shape.
      seed: Of the initial weights.

    Raises:
      ConfigError: If the columns' embeddings differ in size.

    References:
      Naumov et al., Deep Learning Recommendation Model (2019), https://arxiv.org/abs/1906.00091
    """

    def __init__(self, settings: ArchitectureSettings, seed: int) -> None:
        if settings.embedding_sizes != "equal":
            raise ConfigError(f"embedding_sizes must be equal for dlrm. Received: {settings.embedding_sizes}.")
        super().__init__(name="dlrm")
        self.dim = settings.embedding_dim
        first = replace(settings, hidden=settings.hidden[:1])
        self.bottom = _hidden(first, seed_for(seed, "bottom"), "bottom")
        self.projection = dense(self.dim, seed, "projection")
        self.dots = tfrs.layers.feature_interaction.DotInteraction()
        self.hidden = _hidden(settings, seed)

    def call(self, embedding: tf.Tensor, numbers: tf.Tensor, training: bool = False) -> Outputs:
        """As `MLP.call`."""
        bottom = self.projection(self.bottom(numbers, training=training))
        columns = [*tf.split(embedding, embedding.shape[1] // self.dim, axis=1), bottom]
        return Outputs(self.hidden(tf.concat([bottom, self.dots(columns)], axis=1), training=training))


class FinalMLP(keras.layers.Layer):
    """Two streams of hidden layers over inputs that are gated in two ways, with bilinear fusion into logits.

    The first stream's gate has a learnt context, the same for all rows; the second one's context are the numbers of
    the row. The head's dense layer gives the linear part of the fusion.

    Args:
      settings: The shape; each stream has all hidden layers.
      seed: Of the initial weights.

    References:
      Mao et al., FinalMLP (2023), https://arxiv.org/abs/2304.00902
    """

    def __init__(self, settings: ArchitectureSettings, seed: int) -> None:
        super().__init__(name="finalmlp")
        self.gates = [FeatureGate(seed_for(seed, name), name=name) for name in ("gate_0", "gate_1")]
        self.streams = [_hidden(settings, seed_for(seed, name), name) for name in ("stream_0", "stream_1")]
        self.fusion = BilinearFusion(2 * settings.subclasses, seed_for(seed, "fusion"), name="fusion")

    def call(self, embedding: tf.Tensor, numbers: tf.Tensor, training: bool = False) -> Outputs:
        """As `MLP.call`."""
        inputs = tf.concat([embedding, numbers], axis=1)
        # The weights of a constant are a learnt vector.
        contexts = (tf.ones([1, 1]), numbers)
        first, second = (
            stream(gate(inputs, context), training=training)
            for stream, gate, context in zip(self.streams, self.gates, contexts, strict=True)
        )
        return Outputs(tf.concat([first, second], axis=1), self.fusion(first, second))


class FeatureGate(keras.layers.Layer):
    """Weighs features by what a context says; every weight starts at 1 and lies in (0, 2).

    Formula: ``y = 2 sigmoid(relu(context @ U + c) @ V + b) * x`` (FinalMLP, feature gating), with ``V`` and ``b``
    zero at the start.

    Args:
      seed: Of the initial weights.
      **kwargs: Of ``keras.layers.Layer``.
    """

    def __init__(self, seed: int, **kwargs: str) -> None:
        super().__init__(**kwargs)
        self.context = dense(_GATE, seed, "context", activation="relu")

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the layer of the weights, one a feature."""
        self.weight = keras.layers.Dense(input_shape[-1], kernel_initializer="zeros", name="weight")
        super().build(input_shape)

    def call(self, x: tf.Tensor, context: tf.Tensor) -> tf.Tensor:
        """``[batch, width]`` and a context ``[batch or 1, any]`` to ``[batch, width]``."""
        return 2.0 * tf.sigmoid(self.weight(self.context(context))) * x


class BilinearFusion(keras.layers.Layer):
    """The bilinear part of FinalMLP's multi-head fusion, for several logits.

    Formula: ``z_k = sum_h x_h^T W_hk y_h``, where ``x_h`` and ``y_h`` are the h-th of equal parts of ``x`` and ``y``.
    A part has the most units, up to 64, that divide the width.

    Args:
      outputs: Number of logits.
      seed: Of the initial weights.
      **kwargs: Of ``keras.layers.Layer``.
    """

    def __init__(self, outputs: int, seed: int, **kwargs: str) -> None:
        super().__init__(**kwargs)
        self.outputs, self.seed = outputs, seed

    def build(self, input_shape: tf.TensorShape) -> None:
        """Creates the kernel ``[heads * units * units, outputs]``, that of a dense layer over all products."""
        width = input_shape[-1]
        self.units = max(units for units in range(1, _FUSION_HEAD + 1) if width % units == 0)
        self.kernel = self.add_weight(
            name="kernel",
            shape=[width * self.units, self.outputs],
            initializer=keras.initializers.GlorotUniform(seed=self.seed),
        )
        super().build(input_shape)

    def call(self, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        """Two streams ``[batch, width]`` to ``[batch, outputs]``."""
        heads = x.shape[-1] // self.units
        kernel = tf.reshape(self.kernel, [heads, self.units, self.units, self.outputs])
        x, y = (tf.reshape(stream, [-1, heads, self.units]) for stream in (x, y))
        return tf.einsum("bhjk,bhj->bk", tf.einsum("bhi,hijk->bhjk", x, kernel), y)


ARCHITECTURES: dict[str, Callable[[ArchitectureSettings, int], keras.layers.Layer]] = {
    "mlp": MLP,
    "dcn": DCN,
    "dlrm": DLRM,
    "finalmlp": FinalMLP,
}


def build_body(name: str, settings: ArchitectureSettings, seed: int) -> keras.layers.Layer:
    """The layer of an architecture, from embeddings and numbers to `Outputs`.

    Args:
        name: of the architecture.
        settings: its shape.
        seed: of its initial weights.

    Raises:
        ConfigError: there is no such architecture, or it cannot have these settings.
    """
    if name not in ARCHITECTURES:
        raise ConfigError(f"architecture must be one of {', '.join(ARCHITECTURES)}. Received: {name}.")
    return ARCHITECTURES[name](settings, seed)


def _hidden(settings: ArchitectureSettings, seed: int, name: str = "hidden") -> HiddenLayers:
    return HiddenLayers(settings.hidden, seed, settings.dropout, settings.precision, name=name)
