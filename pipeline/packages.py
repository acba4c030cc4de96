"""The packages that decide what comes out of a run, and their versions here."""

from __future__ import annotations

import importlib.metadata

PACKAGES = (
    "ctr-distill",
    "apache-beam",
    "numpy",
    "pandas",
    "pyarrow",
    "tensorflow",
    "tf-keras",
    "tensorflow-recommenders",
    "lightgbm",
)


def package_versions() -> dict[str, str]:
    """Versions of those of the packages that are installed."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
