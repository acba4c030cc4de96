"""One optimizer for all weights: its cost on an embedding table depends on the batch, not on the size of the table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from models.averaging import average_rows, decay_at, exchange, exchange_rows
from models.backend import keras, tf
from models.batch_rows import BatchRows, Scratch

_BETA_1, _BETA_2, _EPSILON = 0.9, 0.999, 1e-7
# Slots of each optimizer, with their initial values.
_SLOTS = {"adam": {"momentum": 0.0, "velocity": 0.0}, "adagrad": {"accumulator": 0.1}}


class OptimizerSettings(Protocol):
    """What :func:`make_optimizer` reads; ``pipeline.settings.TrainingConfig`` says what each is."""

    @property
    def table_optimizer(self) -> str:
        """For rows of tables: adam or adagrad."""

    @property
    def table_rate(self) -> float:
        """Factor on the learning rate of table rows."""

    @property
    def averaging(self) -> float:
        """Decay of the moving average of the weights; 0 for none."""


def make_optimizer(settings: OptimizerSettings, schedule: Any) -> RowOptimizer:
    """The optimizer of a training.

    Args:
        settings: its kind.
        schedule: of the learning rate: a number or a schedule of keras.
    """
    return RowOptimizer(schedule, settings.table_optimizer, settings.table_rate, settings.averaging)


class RowOptimizer(keras.optimizers.Optimizer):
    """Adam for weights; for the rows of tables lazy Adam or Adagrad; and the moving average of both.

    A table is a variable whose name begins with ``table``. Only its rows in the batch change, as if the others had not
    been asked. A row that occurs several times counts once, with the sum of its gradients, so that Adagrad is what it
    would be with the dense gradient. Tables cost ``O(batch)`` a step in time, and one table a slot in memory.

    Tfrs' CompositeOptimizer would do for two of tf-keras' optimizers, but takes the legacy ones only; their Adam
    walks the whole table, and neither keeps an average of the rows of a batch.

    Args:
      learning_rate: A number or a schedule.
      table_optimizer: ``adam`` or ``adagrad``.
      table_rate: Factor on the learning rate of table rows.
      averaging: Decay of the moving average of the weights (see :mod:`models.averaging`), 0 for none.
      **kwargs: Of ``keras.optimizers.Optimizer``.

    Raises:
      ValueError: For another ``table_optimizer``.

    References:
      Kingma and Ba, Adam (2015), https://arxiv.org/abs/1412.6980
      Duchi, Hazan and Singer, Adaptive Subgradient Methods (2011), https://jmlr.org/papers/v12/duchi11a.html
    """

    def __init__(
        self,
        learning_rate: Any,
        table_optimizer: str = "adam",
        table_rate: float = 1.0,
        averaging: float = 0.0,
        **kwargs: Any,
    ) -> None:
        if table_optimizer not in _SLOTS:
            raise ValueError(f"`table_optimizer` should be one of {', '.join(_SLOTS)}. Received: {table_optimizer}")
        # Decay 0, the default of the base class, would read and write all weights at each step.
        super().__init__(**{"name": "row_optimizer", "weight_decay": None, "jit_compile": False, **kwargs})
        self._learning_rate = self._build_learning_rate(learning_rate)
        self.table_optimizer, self.table_rate, self.averaging = table_optimizer, table_rate, averaging
        # What is saved is the list of all variables; these only find them.
        self._weights = self._no_dependency([])
        self._slots = self._no_dependency({})
        self._tables = self._no_dependency(set())

    def build(self, var_list: Sequence[tf.Variable]) -> None:
        """Creates the slots.

        Args:
          var_list: All variables to train.
        """
        if getattr(self, "_built", False):
            return
        super().build(var_list)
        self._built = True
        for variable in var_list:
            self._weights.append(variable)
            if variable.name.split("/")[-1].startswith("table"):
                self._tables.add(self._var_key(variable))
            self._slots[self._var_key(variable)] = self._make_slots(variable)

    def _is_table(self, variable: tf.Variable) -> bool:
        return self._var_key(variable) in self._tables

    def _make_slots(self, variable: tf.Variable) -> dict[str, tf.Variable]:
        table = self._is_table(variable)
        slots = {
            name: self.add_variable_from_reference(variable, name, initial_value=tf.fill(variable.shape, value))
            for name, value in _SLOTS[self.table_optimizer if table else "adam"].items()
        }
        if self.averaging and table:
            slots["average"] = self.add_variable_from_reference(variable, "average")
            slots["since"] = self._add_steps(variable)
        elif self.averaging:
            slots["average"] = self.add_variable_from_reference(variable, "average", initial_value=variable)
        return slots

    def _add_steps(self, table: tf.Variable) -> tf.Variable:
        with tf.distribute.get_strategy().extended.colocate_vars_with(table):
            steps = tf.Variable(tf.zeros([table.shape[0]], tf.int32), name="since", trainable=False)
        self._variables.append(steps)
        return steps

    def _deduplicate_sparse_grad(self, grads: Sequence[Any]) -> Sequence[Any]:
        # The step of a table adds up repeated rows itself, faster.
        return grads

    def update_step(self, gradient: tf.Tensor | tf.IndexedSlices, variable: tf.Variable) -> None:
        """Updates one variable.

        Args:
          gradient: Dense for weights, of looked-up rows for tables.
          variable: The variable.
        """
        slots = self._slots[self._var_key(variable)]
        if self._is_table(variable):
            self._update_rows(gradient, variable, slots)
        else:
            self._update_weights(gradient, variable, slots)

    def _update_weights(self, gradient: tf.Tensor, variable: tf.Variable, slots: dict[str, tf.Variable]) -> None:
        self._apply("adam", variable, [slots["momentum"], slots["velocity"]], gradient, self.learning_rate)
        if self.averaging:
            average = slots["average"]
            step = tf.cast(self.iterations + 1, variable.dtype)
            average.assign_sub((1 - decay_at(step, self.averaging)) * (average - variable))

    def _update_rows(self, gradient: Any, table: tf.Variable, slots: dict[str, tf.Variable]) -> None:
        rows = BatchRows.of(gradient.indices)
        changed = [table, *[slots[name] for name in _SLOTS[self.table_optimizer]]]
        old = [rows.read(variable) for variable in changed]
        weights, *state = [Scratch(values) for values in old]
        rate = self.table_rate * self.learning_rate
        self._apply(self.table_optimizer, weights, state, rows.sum(gradient.values), rate)
        new = [scratch.release() for scratch in (weights, *state)]
        for variable, values in zip(changed, new, strict=True):
            rows.write(variable, values)
        if self.averaging:
            self._average_rows(rows, old[0], new[0], slots)

    def _apply(self, kind: str, weights: Any, slots: Sequence[Any], gradient: tf.Tensor, rate: tf.Tensor) -> None:
        """Adam or Adagrad in one pass; the same formula as TensorFlow operations takes up to eleven."""
        if kind == "adagrad":
            tf.raw_ops.ResourceApplyAdagradV2(
                var=weights.handle, accum=slots[0].handle, lr=rate, epsilon=0.0, grad=gradient
            )
            return
        step = tf.cast(self.iterations + 1, gradient.dtype)
        tf.raw_ops.ResourceApplyAdam(
            var=weights.handle,
            m=slots[0].handle,
            v=slots[1].handle,
            beta1_power=tf.pow(_BETA_1, step),
            beta2_power=tf.pow(_BETA_2, step),
            lr=rate,
            beta1=_BETA_1,
            beta2=_BETA_2,
            epsilon=_EPSILON,
            grad=gradient,
        )

    def _average_rows(self, rows: BatchRows, old: tf.Tensor, new: tf.Tensor, slots: dict[str, tf.Variable]) -> None:
        step = tf.cast(self.iterations + 1, tf.int32)
        average, since = rows.read(slots["average"]), rows.read(slots["since"])
        rows.write(slots["average"], average_rows(step, average, since, old, new, self.averaging))
        rows.write(slots["since"], tf.fill(tf.shape(since), step))

    @contextlib.contextmanager
    def averaged(self) -> Iterator[None]:
        """Puts the averages in the place of the weights while the body runs; nothing where ``averaging`` is 0.

        The weights come back with every bit. While the body runs, they lie in the place of the averages, so the
        optimizer must neither be used nor saved.
        """
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        if not self.averaging:
            return
        step = tf.cast(self.iterations, tf.int32)
        update = self._distribution_strategy.extended.update
        for variable in self._weights:
            slots = self._slots[self._var_key(variable)]
            if self._is_table(variable):
                update(variable, exchange_rows, (slots["average"], slots["since"], step, self.averaging), group=False)
            else:
                update(variable, exchange, (slots["average"],), group=False)
