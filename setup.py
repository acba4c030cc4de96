"""Packaging: the data side is the core; everything that needs TensorFlow is the ``train`` extra."""

from pathlib import Path

from setuptools import setup

CORE = [
    "apache-beam>=2.70,<2.78",
    "google-crc32c>=1.5,<2",
    "numpy>=2.0,<3",
    "pandas>=2.2,<4",
    "pyarrow>=18,<26",
    "pyyaml>=6,<7",
]
TRAIN = [
    "tensorflow>=2.18,<2.22",
    "tensorflow-recommenders>=0.7.7,<0.8",
    "tf-keras>=2.18,<2.22",
]
BOOST = ["lightgbm>=4.5,<5"]
TUNE = ["optuna>=4,<5"]
GCP = ["apache-beam[gcp]>=2.70,<2.78"]
DEV = [
    "hypothesis>=6.100,<7",
    "mypy>=1.11,<3",
    "pandas-stubs>=2.2,<4",
    "pytest>=8,<10",
    "pytest-xdist>=3.6,<4",
    "ruff>=0.6,<1",
    "scikit-learn>=1.5,<2",
    "scipy>=1.13,<2",
    "types-PyYAML>=6,<7",
]

setup(
    name="ctr-distill",
    version="0.1.0",
    description="Subclass distillation of click-through-rate models, from raw logs to a SavedModel",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    python_requires=">=3.11,<3.13",
    packages=["features", "models", "pipeline"],
    install_requires=CORE,
    extras_require={"train": TRAIN, "boost": BOOST, "tune": TUNE, "gcp": GCP, "dev": DEV},
    entry_points={"console_scripts": ["ctr-distill = pipeline.cli:main"]},
)
