"""Logistic regression over one-hot categorical values and numeric buckets."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from rows import Rows
from scipy import sparse
from search import Choice, Fitted, LogUniform, Parameters, Peer, Probabilities, Space
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

FOLDS = 10
MISSING, LARGE = -(2**40), 2**40  # keys of numeric buckets: no integer of a log comes near them

USUAL: Parameters = {"min_count": 4, "c": 0.05, "unseen": "rare"}
SPACE: Space = {
    "min_count": Choice((2, 3, 4, 6, 10)),
    "c": LogUniform(0.02, 0.2),
    "unseen": Choice(("own", "rare")),
}


def buckets(x: NDArray[np.float32]) -> NDArray[np.int64]:
    """Bucket key of each number: floor(ln(x)^2) above 2, else the integer itself; missing has its own."""
    value = x.astype(np.float64)
    large = LARGE + np.floor(np.log(np.maximum(value, 2.0)) ** 2)
    key = np.where(value > 2, large, np.floor(value))
    return np.where(np.isnan(value), MISSING, key).astype(np.int64)


def value_codes(rows: Rows) -> list[tuple[NDArray[np.int32], int]]:
    """All 39 columns as (codes, number of values)."""
    numeric = [np.unique(buckets(column), return_inverse=True) for column in rows.numeric.T]
    columns = [(inverse.astype(np.int32), len(keys)) for keys, inverse in numeric]
    return columns + list(zip(rows.codes.T, rows.sizes, strict=True))


def column_ids(
    codes: NDArray[np.int32], size: int, fold: NDArray[np.int8], min_count: int, own_unseen: bool
) -> tuple[NDArray[np.int64], int]:
    """Ids of one column: 0 rare, 1 never seen, then the values seen at least `min_count` times in training.

    With `own_unseen`, a training row whose value occurs in no other fold shows it as never seen, so that
    the weight of that id is learned; without, a value never seen shares the id of the rare ones.
    """
    train = codes[: len(fold)]
    count = np.bincount(train, minlength=size)
    kept = count >= min_count
    table = np.where(kept, 1 + np.cumsum(kept), np.where(count == 0, int(own_unseen), 0))
    ids = table[codes]
    if own_unseen:
        here = np.bincount(train.astype(np.int64) * FOLDS + fold, minlength=size * FOLDS)
        alone = here[train.astype(np.int64) * FOLDS + fold] == count[train]
        ids[: len(fold)][alone] = 1
        if not (ids[: len(fold)] == 0).any():
            ids[ids == 0] = 1  # no training row teaches the rare id (always so with min_count 2): unseen stands in
    return ids, 2 + int(kept.sum())


def one_hot(rows: Rows, seed: int, min_count: int, own_unseen: bool) -> sparse.csr_matrix:
    """Build the sparse design matrix of all rows: one 1 a column of the log."""
    total = rows.split["train"].stop
    fold = np.random.default_rng(seed).integers(FOLDS, size=total).astype(np.int8)
    parts, width = [], 0
    for codes, size in value_codes(rows):
        ids, used = column_ids(codes, size, fold, min_count, own_unseen)
        parts.append(ids + width)
        width += used
    indices = np.column_stack(parts).astype(np.int32)
    pointers = np.arange(0, indices.size + 1, indices.shape[1], dtype=np.int32)
    data = np.ones(indices.size)
    return sparse.csr_matrix((data, indices.ravel(), pointers), shape=(len(indices), width))


def logistic(rows: Rows, seed: int, threads: int) -> Peer:
    """L2 logistic regression, minimum count and strength tuned (`threads` is not used: lbfgs has one)."""
    matrix = lru_cache(maxsize=1)(lambda count, own: one_hot(rows, seed, count, own))

    def fit(parameters: Parameters) -> Fitted:
        x = matrix(parameters["min_count"], parameters["unseen"] == "own")
        model = LogisticRegression(C=parameters["c"], solver="lbfgs", tol=1e-6, max_iter=1000)
        with threadpool_limits(1):  # on a busy machine the BLAS threads of lbfgs wait for each other
            model.fit(x[rows.split["train"]], rows.labels("train"))

        def predict(split: str) -> Probabilities:
            return model.predict_proba(x[rows.split[split]])[:, 1]

        return Fitted(predict, {"iterations": int(model.n_iter_[0])})

    return Peer(USUAL, SPACE, fit)
