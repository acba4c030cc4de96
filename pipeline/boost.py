"""The boosted trees of a teacher: trained on the rows of a run, and put beside its networks."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from features.blocks import Block
from features.crosses import MAX_ROWS
from features.statistics import NO_FOLD
from models.backend import tf
from models.boosted import PARTS, TreeInputs, TreeRows, TreeSettings, boost, tree_inputs
from models.calibration import Calibration, fit_calibration
from models.estimates import subclass_click_logits
from models.inputs import ShardFiles
from models.parts import folds_of_part
from pipeline import storage
from pipeline.calibrate import calibration_json, mean_calibration
from pipeline.config import narrow
from pipeline.loaded_teacher import LoadedTeacher, TeacherFiles
from pipeline.progress import Progress
from pipeline.settings import TeacherConfig
from pipeline.stored_rows import blocks_of, labels_of
from pipeline.teacher_data import TeacherData
from pipeline.workspace import TEACHER, Run, digest


def boost_teacher(run: Run, config: TeacherConfig, networks: dict[str, Any], original: Run | None) -> dict[str, Any]:
    """Trains the trees of a teacher whose networks are finished; an interrupted call goes on with the next booster.

    Args:
        run: the run directory.
        config: settings of the teacher.
        networks: the manifest of the networks.
        original: for a refit, the run whose trees and calibration are repeated; else None.

    Returns:
        what changes in the manifest: ``trees``, ``calibration`` and ``fingerprint``.
    """
    data, parts = TeacherData.read(run, config), config.folds or PARTS
    inputs = [f"trees/inputs-{part}" for part in range(config.folds)] or ["trees/inputs"]
    for part, name in enumerate(inputs):
        _save_inputs(run.file(TEACHER, name), data, config, part)
    boosters = [f"trees/booster-{part}.txt" for part in range(parts)]
    repeated = original.manifest(TEACHER) if original else None
    for part, name in enumerate(boosters):
        rounds = repeated["trees"]["rounds"][part] if repeated else None
        _save_booster(run, name, inputs[part % len(inputs)], data, config, part, rounds)
    texts = [storage.read_text(run.file(TEACHER, name)) for name in boosters]
    trees: dict[str, Any] = {
        "inputs": inputs,
        "boosters": boosters,
        "rounds": [text.count("\nTree=") for text in texts],
        "weight": config.boosted,
    }
    trees["calibrations"] = (
        repeated["trees"]["calibrations"] if repeated else list(_calibrations(run, data, networks, trees))
    )
    hashes = [hashlib.sha256(text.encode()).hexdigest() for text in texts]
    whole = mean_calibration([Calibration(**values) for values in trees["calibrations"]])
    return {
        "trees": trees,
        "calibration": calibration_json(whole),
        "fingerprint": digest([networks["fingerprint"], *hashes, config.boosted, trees["calibrations"]]),
    }


def _save_inputs(path: str, data: TeacherData, config: TeacherConfig, part: int) -> None:
    if storage.exists(path):
        return
    tables = data.tables(config, part)
    values = tables.values if config.statistics != "none" else None
    with storage.publish_folder(path) as folder:
        TreeInputs(values, tables.crosses, data.training.columns).save(folder)


def _save_booster(
    run: Run, name: str, inputs: str, data: TeacherData, config: TeacherConfig, part: int, rounds: int | None
) -> None:
    """Trains a booster without the rows of its part, unless an earlier call has."""
    path = run.file(TEACHER, name)
    if storage.exists(path):
        return
    parts = config.folds or PARTS
    module = tf.saved_model.load(run.file(TEACHER, inputs))
    training = _training_rows(data.training_files(config), module, folds_of_part(part, parts))
    validation = _validation_rows(data.validation, module) if data.validation and rounds is None else None
    settings = narrow(config, TreeSettings)
    if rounds is not None:
        settings = dataclasses.replace(settings, boosted_trees=rounds)
    progress = Progress(f"trees {part + 1} of {parts}", settings.boosted_trees, "trees")
    booster = boost(training, validation, settings, progress.update)
    progress.close(f"{booster.num_trees()} trees")
    storage.write_bytes(path, booster.model_to_string().encode())


def _training_rows(files: ShardFiles, module: TreeInputs, without: Sequence[int]) -> TreeRows:
    """The latest training rows without those of some folds; as many as crosses are found on, in whole shards."""
    pieces: list[_Piece] = []
    for index in reversed(range(len(files.examples))):
        blocks = [block.without(without) for block in blocks_of(files.examples[index])]
        asked = [np.full(len(b), files.parts[index]) if files.parts else b.folds for b in blocks]
        pieces += [_piece(module, *pair, files.outcome) for pair in zip(blocks, asked, strict=True)]
        if sum(len(labels) for _, labels, _ in pieces) >= MAX_ROWS:
            break
    return _tree_rows(pieces)


def _validation_rows(files: ShardFiles, module: TreeInputs) -> TreeRows:
    blocks = [block for path in files.examples for block in blocks_of(path)]
    return _tree_rows([_piece(module, block, np.full(len(block), NO_FOLD), files.outcome) for block in blocks])


_Piece = tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8], npt.NDArray[np.float32] | None]


def _piece(module: TreeInputs, block: Block, asked: npt.NDArray[np.integer], outcome: int | None) -> _Piece:
    """Inputs, labels and weights of a block's rows, each asking for statistics with a fold or time slice."""
    return tree_inputs(module, block, asked.astype(np.int32)), labels_of(block, outcome), block.weights


def _tree_rows(pieces: Sequence[_Piece]) -> TreeRows:
    inputs, labels, weights = zip(*pieces, strict=True)
    used = [each for each in weights if each is not None]
    return TreeRows(list(inputs), np.concatenate(labels), np.concatenate(used) if used else None)


def _calibrations(
    run: Run, data: TeacherData, networks: dict[str, Any], trees: dict[str, Any]
) -> Iterator[dict[str, Any]]:
    """The calibration of each network and its trees together, on the validation rows."""
    files = data.validation
    assert files is not None
    blocks = [block for path in files.examples for block in blocks_of(path)]
    labels = np.concatenate([labels_of(block, files.outcome) for block in blocks])
    weights = [block.weights for block in blocks if block.weights is not None]
    for part, model in enumerate(networks["models"]):
        own = {name: trees[name][part : part + 1] for name in ("inputs", "boosters")} if networks["folds"] else {}
        mixed = {**trees, **own, "calibrations": [calibration_json(Calibration())]}
        alone = {**networks, "models": [model], "folds": 0, "trees": mixed}
        teacher = LoadedTeacher(TeacherFiles.of(run.file(TEACHER), alone))
        logits = [subclass_click_logits(teacher.score(block, training=False)) for block in blocks]
        yield calibration_json(
            fit_calibration(np.concatenate(logits), labels, np.concatenate(weights) if weights else None)
        )
