"""Names of inputs: what TensorFlow allows, and none twice."""

from __future__ import annotations

import pytest

from models.input_names import input_names


@pytest.mark.parametrize(
    ("columns", "inputs"),
    [
        (["I1", "C1", "site_id", "name"], ["I1", "C1", "site_id", "name"]),
        (["user id", "größe", "x/y"], ["user_id", "gr__e", "x_y"]),
        (["2nd", "_x", "%"], ["column_2nd", "column__x", "column__"]),
        (["class", "self", "None"], ["class_", "self_", "None_"]),
        (["a-b", "a b", "a_b"], ["a_b_", "a_b__", "a_b"]),  # the name that may stay does
        (["A", "a"], ["A", "a_"]),
    ],
)
def test_input_names(columns: list[str], inputs: list[str]) -> None:
    assert input_names(columns) == dict(zip(columns, inputs, strict=True))
