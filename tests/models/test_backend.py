"""One Keras: tf-keras, and TensorFlow imported in one place only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from models import backend

ROOT = Path(backend.__file__).parents[1]


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Runs Python in a fresh process."""
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **environment},
        check=False,
    )


def test_tensorflow_and_recommenders_use_tf_keras() -> None:
    assert backend.keras.__name__ == "tf_keras"
    assert backend.tf.keras.layers.Layer is backend.keras.layers.Layer
    assert issubclass(backend.tfrs.Model, backend.keras.Model)
    assert issubclass(backend.tfrs.layers.dcn.Cross, backend.keras.layers.Layer)


def test_keras_3_is_refused_with_the_remedy() -> None:
    done = run("import models.backend", TF_USE_LEGACY_KERAS="0")
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: TensorFlow must use tf-keras (Keras 2).")
    assert "TF_USE_LEGACY_KERAS=1" in last


@pytest.mark.parametrize("package", ["features", "models", "pipeline"])
def test_nothing_else_imports_tensorflow(package: str) -> None:
    imports = re.compile(r"^\s*(import|from)\s+(tensorflow|tf_keras|keras|tensorflow_recommenders)\b", re.MULTILINE)
    found = {path.name for path in (ROOT / package).rglob("*.py") if imports.search(path.read_text(encoding="utf-8"))}
    assert found == ({"backend.py"} if package == "models" else set())


def test_the_numpy_side_of_models_needs_no_tensorflow() -> None:
    names = (
        "models",
        "models.metrics",
        "models.estimates",
        "models.calibration",
        "models.subclasses",
        "models.methods",
    )
    code = f"import sys, {', '.join(names)}; print(sorted({{'tensorflow', 'tf_keras', 'keras'}} & set(sys.modules)))"
    done = run(code)
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr
