"""Gradient boosting: LightGBM and XGBoost over out-of-fold target statistics, CatBoost over categories."""

from __future__ import annotations

from functools import lru_cache

import catboost
import lightgbm
import numpy as np
import pandas as pd
import xgboost
from numpy.typing import NDArray
from rows import CATEGORICAL, NUMERIC, Rows
from search import Choice, Fitted, LogUniform, Parameters, Peer, Probabilities, Space, Uniform

FOLDS = 10
ROUNDS, PATIENCE = 3000, 50

LIGHTGBM_USUAL: Parameters = {
    "smoothing": 20,
    "learning_rate": 0.05,
    "num_leaves": 31,
    "min_child_samples": 100,
    "reg_lambda": 10.0,
    "colsample_bytree": 0.5,
    "subsample": 0.8,
}
LIGHTGBM_SPACE: Space = {
    "smoothing": Choice((5, 10, 20, 50, 100)),
    "learning_rate": LogUniform(0.02, 0.08),
    "num_leaves": Choice((7, 15, 31, 63)),
    "min_child_samples": LogUniform(20, 500),
    "reg_lambda": LogUniform(0.3, 100),
    "colsample_bytree": Uniform(0.2, 0.8),
    "subsample": Uniform(0.5, 1.0),
}
XGBOOST_USUAL: Parameters = {
    "smoothing": 20,
    "learning_rate": 0.05,
    "max_depth": 5,
    "min_child_weight": 20.0,
    "reg_lambda": 10.0,
    "colsample_bytree": 0.5,
    "subsample": 0.8,
}
XGBOOST_SPACE: Space = {
    "smoothing": Choice((5, 10, 20, 50, 100)),
    "learning_rate": LogUniform(0.02, 0.08),
    "max_depth": Choice((3, 4, 5, 6)),
    "min_child_weight": LogUniform(3, 100),
    "reg_lambda": LogUniform(0.3, 100),
    "colsample_bytree": Uniform(0.2, 0.8),
    "subsample": Uniform(0.5, 1.0),
}
CATBOOST_USUAL: Parameters = {
    "learning_rate": 0.15,
    "depth": 5,
    "l2_leaf_reg": 10.0,
    "random_strength": 1.0,
    "rsm": 0.2,
    "max_ctr_complexity": 2,
}
CATBOOST_SPACE: Space = {
    "learning_rate": LogUniform(0.08, 0.2),
    "depth": Choice((4, 5, 6)),
    "l2_leaf_reg": LogUniform(1, 50),
    "random_strength": Choice((0.5, 1.0, 2.0, 5.0)),
    "rsm": Uniform(0.1, 0.4),
    "max_ctr_complexity": Choice((1, 2)),
}


def statistics(
    codes: NDArray[np.int32], size: int, label: NDArray[np.int8], fold: NDArray[np.int8], smoothing: float
) -> NDArray[np.float32]:
    """Smoothed log-odds and log-count of one column by value; a training row's own fold is left out."""
    total = len(label)
    cell = codes[:total].astype(np.int64) * FOLDS + fold
    count = np.bincount(cell, minlength=size * FOLDS).reshape(size, FOLDS)
    clicks = np.bincount(cell, weights=label, minlength=size * FOLDS).reshape(size, FOLDS)
    n, c = count.sum(1)[codes].astype(np.float64), clicks.sum(1)[codes]
    n[:total] -= count.ravel()[cell]
    c[:total] -= clicks.ravel()[cell]
    rate = float(label.mean())
    odds = np.log((c + smoothing * rate) / (n - c + smoothing * (1 - rate)))
    return np.column_stack([odds, np.log1p(n)]).astype(np.float32)


def with_statistics(rows: Rows, seed: int, smoothing: float) -> NDArray[np.float32]:
    """Return the raw integers and the two statistics of each categorical column, for all rows."""
    label = rows.labels("train")
    fold = np.random.default_rng(seed).integers(FOLDS, size=len(label)).astype(np.int8)
    columns = zip(rows.codes.T, rows.sizes, strict=True)
    parts = [statistics(codes, size, label, fold, smoothing) for codes, size in columns]
    return np.hstack([rows.numeric, *parts])


def lightgbm_peer(rows: Rows, seed: int, threads: int) -> Peer:
    """LightGBM over out-of-fold target statistics."""
    features = lru_cache(maxsize=1)(lambda smoothing: with_statistics(rows, seed, smoothing))
    fixed = {"objective": "binary", "subsample_freq": 1, "num_threads": threads, "seed": seed, "verbose": -1}
    train, valid = rows.split["train"], rows.split["valid"]

    def fit(parameters: Parameters) -> Fitted:
        x = features(parameters["smoothing"])
        settings: Parameters = fixed | {name: value for name, value in parameters.items() if name != "smoothing"}
        settings["min_child_samples"] = round(settings["min_child_samples"])
        data = lightgbm.Dataset(x[train], rows.label[train])
        judge = lightgbm.Dataset(x[valid], rows.label[valid], reference=data)
        stop = lightgbm.early_stopping(PATIENCE, verbose=False)
        model = lightgbm.train(settings, data, ROUNDS, valid_sets=[judge], callbacks=[stop])

        def predict(split: str) -> Probabilities:
            return np.asarray(model.predict(x[rows.split[split]], num_iteration=model.best_iteration))

        return Fitted(predict, {"rounds": int(model.best_iteration)}, model)

    return Peer(LIGHTGBM_USUAL, LIGHTGBM_SPACE, fit)


def xgboost_peer(rows: Rows, seed: int, threads: int) -> Peer:
    """XGBoost over out-of-fold target statistics."""
    features = lru_cache(maxsize=1)(lambda smoothing: with_statistics(rows, seed, smoothing))
    fixed = {"n_estimators": ROUNDS, "tree_method": "hist", "n_jobs": threads, "random_state": seed}

    def fit(parameters: Parameters) -> Fitted:
        x = features(parameters["smoothing"])
        settings = {name: value for name, value in parameters.items() if name != "smoothing"}
        model = xgboost.XGBClassifier(**settings, **fixed, early_stopping_rounds=PATIENCE, eval_metric="logloss")
        valid = (x[rows.split["valid"]], rows.labels("valid"))
        model.fit(x[rows.split["train"]], rows.labels("train"), eval_set=[valid], verbose=False)

        def predict(split: str) -> Probabilities:
            return model.predict_proba(x[rows.split[split]])[:, 1].astype(np.float64)

        return Fitted(predict, {"rounds": int(model.best_iteration) + 1}, model)

    return Peer(XGBOOST_USUAL, XGBOOST_SPACE, fit)


def catboost_pools(rows: Rows) -> dict[str, catboost.Pool]:
    """Build pools with the categories as they are, a number standing for each text (missing too)."""
    frame = pd.concat(
        [pd.DataFrame(rows.numeric, columns=NUMERIC), pd.DataFrame(rows.codes, columns=CATEGORICAL)], axis=1
    )
    return {
        name: catboost.Pool(frame.iloc[part], rows.label[part], cat_features=CATEGORICAL)
        for name, part in rows.split.items()
        if part.stop > part.start
    }


def catboost_peer(rows: Rows, seed: int, threads: int, pools: dict[str, catboost.Pool] | None = None) -> Peer:
    """CatBoost with its own ordered statistics of the categories; `pools` in place of those of codes."""
    pools = pools or catboost_pools(rows)

    def fit(parameters: Parameters) -> Fitted:
        model = catboost.CatBoostClassifier(
            **parameters,
            iterations=ROUNDS,
            early_stopping_rounds=PATIENCE,
            thread_count=threads,
            random_seed=seed,
            allow_writing_files=False,
            verbose=False,
        )
        model.fit(pools["train"], eval_set=pools["valid"])

        def predict(split: str) -> Probabilities:
            return model.predict_proba(pools[split])[:, 1]

        return Fitted(predict, {"rounds": int(model.tree_count_)}, model)

    return Peer(CATBOOST_USUAL, CATBOOST_SPACE, fit)
