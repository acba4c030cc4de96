from __future__ import annotations

import numpy as np
import pytest

from models.parts import by_part, folds_of_part


@pytest.mark.parametrize(
    ("part", "parts", "folds"),
    [(0, 0, []), (0, 2, [0, 2, 4, 6, 8]), (1, 2, [1, 3, 5, 7, 9]), (4, 5, [4, 9]), (7, 10, [7])],
)
def test_folds_of_a_part(part: int, parts: int, folds: list[int]) -> None:
    assert folds_of_part(part, parts) == folds


@pytest.mark.parametrize("parts", [1, 2, 5, 10])
def test_each_row_hears_the_model_of_its_part(parts: int) -> None:
    folds = np.array([3, 9, 0, 4, 4, 7, 2], np.uint8)
    found = by_part(folds, parts, lambda part, rows: np.stack([rows, np.full(len(rows), part)], axis=1))
    assert found.tolist() == [[row, fold % parts] for row, fold in enumerate(folds.tolist())]


def test_parts_without_rows() -> None:
    assert by_part(np.array([8, 8], np.uint8), 5, lambda part, rows: rows * 10).tolist() == [0, 10]
    assert by_part(np.empty(0, np.uint8), 5, lambda part, rows: rows).tolist() == []
