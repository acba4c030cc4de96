"""Stored weights of students: read as they were written, or an error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from features.errors import ArtifactError
from models.trunk_weights import TrunkWeights
from pipeline.arrays import read_arrays, write_arrays
from pipeline.served_student import WEIGHTS, read_weights, write_weights


def trunk(seed: int) -> TrunkWeights:
    rng = np.random.default_rng(seed)
    columns, linear, kernel, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((4, 3), 2, (4, 2), 2))
    return TrunkWeights((columns,), linear, None, (kernel, bias))


def test_weights_of_several_trunks(tmp_path: Path) -> None:
    path, trunks = str(tmp_path / WEIGHTS), [trunk(seed) for seed in range(12)]
    write_weights(path, trunks)
    found = read_weights(path)
    assert len(found) == 12
    for one, other in zip(found, trunks, strict=True):
        assert one.hidden is None
        for name, array in one.to_arrays().items():
            assert array.tobytes() == other.to_arrays()[name].tobytes()


@pytest.mark.parametrize("change", ["head_bias", "linear", "no number"])
def test_other_arrays_are_an_error(tmp_path: Path, change: str) -> None:
    path = str(tmp_path / WEIGHTS)
    write_weights(path, [trunk(0)])
    arrays = read_arrays(path)
    if change == "no number":
        arrays["weights"] = arrays["0_linear"]
    else:
        del arrays[f"0_{change}"]
    write_arrays(path, **arrays)
    with pytest.raises(ArtifactError, match=r"must be what distill wrote. Received: .*weights.npz"):
        read_weights(path)


def test_a_file_that_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / WEIGHTS
    write_weights(str(path), [trunk(0)])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(ArtifactError, match="must be whole"):
        read_weights(str(path))
