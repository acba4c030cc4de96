"""FuxiCTR as a peer in training: steps of a deep network from its embedding and MLP layers, as its `DNN` has them.

400-400-400 over embeddings of 16 floats for 26 categorical columns and, by its own rule for numbers, a learnt vector of
16 floats for each of 13 numbers, which the number multiplies. A step is that of its `BaseModel`: a dense gradient of
every table (its default), clipped by its norm, and PyTorch's optimizer.

Less than our teacher: one probability with the binary cross-entropy (no subclasses, no auxiliary loss), no linear part.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.layers import FeatureEmbedding, MLP_Block
from fuxictr.pytorch.models import BaseModel

DIM, HIDDEN, RATE, MAX_NORM = 16, [400, 400, 400], 1e-3, 10.0
OPTIMIZERS = {"adam": "adam", "adagrad": "Adagrad"}


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batches", type=Path, required=True, help="folder of ids.npy, dense.npy, label.npy")
    parser.add_argument("--table", type=int, required=True, help="rows of all tables together")
    parser.add_argument("--optimizer", choices=list(OPTIMIZERS), required=True)
    parser.add_argument("--steps", type=int, required=True, help="counted steps")
    parser.add_argument("--warm-up", type=int, required=True, help="steps before them")
    parser.add_argument("--threads", type=int, required=True)
    return parser.parse_args()


class DeepNetwork(BaseModel):
    """Embeddings of all features, then an MLP to a probability.

    Args:
        features: FuxiCTR's map of them.
        optimizer: its name in PyTorch.
    """

    def __init__(self, features: FeatureMap, optimizer: str) -> None:
        super().__init__(features, verbose=0, model_root=features.data_dir, metrics=[])
        self.embedding = FeatureEmbedding(features, DIM)
        self.mlp = MLP_Block(features.num_fields * DIM, HIDDEN, output_dim=1, output_activation="sigmoid")
        self.compile(optimizer, "binary_crossentropy", RATE)
        self.reset_parameters()
        # `fit` sets it.
        self._max_gradient_norm = MAX_NORM

    def forward(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The probability ``[batch, 1]`` of a batch."""
        return {"y_pred": self.mlp(self.embedding(self.get_inputs(inputs), flatten_emb=True))}


def feature_map(size: int, columns: int, numbers: int) -> FeatureMap:
    """What FuxiCTR would read from the files of its build step."""
    features = FeatureMap("synthetic", ".")
    features.labels = ["label"]
    features.features.update({f"I{i + 1}": {"type": "numeric", "source": ""} for i in range(numbers)})
    categorical = {"type": "categorical", "source": "", "vocab_size": size}
    features.features.update({f"C{i + 1}": categorical for i in range(columns)})
    features.num_fields = features.get_num_fields()
    return features


def read_batches(folder: Path) -> list[dict[str, torch.Tensor]]:
    """The batches, a tensor a column, as its data loaders give them."""
    arrays = {name: torch.from_numpy(np.load(folder / f"{name}.npy")) for name in ("ids", "dense", "label")}
    return [
        {f"I{i + 1}": column for i, column in enumerate(dense.T.contiguous())}
        | {f"C{i + 1}": column for i, column in enumerate(ids.T.contiguous())}
        | {"label": label}
        for ids, dense, label in zip(arrays["ids"], arrays["dense"], arrays["label"], strict=True)
    ]


def train(options: argparse.Namespace) -> dict[str, Any]:
    """Takes the steps and returns the figures."""
    batches = read_batches(options.batches)
    columns, numbers = (sum(name.startswith(kind) for name in batches[0]) for kind in "CI")
    model = DeepNetwork(feature_map(options.table // columns, columns, numbers), OPTIMIZERS[options.optimizer])
    model.train()
    stream = itertools.cycle(batches)

    def take(steps: int) -> None:
        for batch in itertools.islice(stream, steps):
            model.train_step(batch).item()

    take(options.warm_up)
    begun, begun_cpu = time.perf_counter(), time.process_time()
    take(options.steps)
    times = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - begun_cpu}
    return {"rows": options.steps * len(batches[0]["label"]), **times}


def main() -> None:
    """Measures once and prints the figures."""
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    print(json.dumps(train(options)))


if __name__ == "__main__":
    main()
