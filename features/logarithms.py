"""Logarithms of raw numbers: the signed one, and the squared one of the public Criteo benchmark."""

from __future__ import annotations

from decimal import Context, Decimal
from functools import cache

import numpy as np
from numpy.typing import NDArray

SQUARED_LOGS = 7871
"""The squared logarithm of the largest float32."""

Raw = NDArray[np.float32]
Wide = NDArray[np.float64]


def signed_log(values: Raw) -> Wide:
    """sign(x) log(1 + |x|) in float64; NaN stays NaN. Any shape."""
    wide = values.astype(np.float64)
    return np.copysign(np.log1p(np.abs(wide)), wide)


def inverse_signed_log(logs: Wide) -> Wide:
    """sign(t) (exp(|t|) - 1), the x whose signed logarithm is t. Any shape."""
    return np.copysign(np.expm1(np.abs(logs)), logs)


@cache
def squared_log_thresholds() -> Raw:
    """The smallest float32 with a squared logarithm of at least 1, 2, ...: float32 [7871], the same everywhere."""
    context = Context(prec=40)
    thresholds = []
    for k in range(1, SQUARED_LOGS + 1):
        exact = context.exp(context.sqrt(Decimal(k)))
        near = np.float32(exact)
        thresholds.append(near if Decimal(float(near)) > exact else np.nextafter(near, np.float32(np.inf)))
    table = np.array(thresholds, np.float32)
    table.setflags(write=False)
    return table


def squared_log(values: Raw) -> Wide:
    """floor((ln x)^2) if x > 2, else x truncated toward zero; exact, NaN stays NaN. Any shape."""
    found = np.searchsorted(squared_log_thresholds(), values, side="right")
    # Adding 0 makes -0, the truncation of -0.5, a 0.
    return np.where(values > 2, found, np.trunc(values.astype(np.float64)) + 0.0)
