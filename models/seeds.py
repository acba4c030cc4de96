"""Seeds from (seed, name) alone: what else a model has does not change its initial weights or its dropout."""

from __future__ import annotations

import zlib

import numpy as np


def seed_for(seed: int, name: str) -> int:
    """A seed in [0, 2^31) for the variable or layer of that name."""
    return int(np.random.default_rng([seed, zlib.crc32(name.encode())]).integers(2**31))
