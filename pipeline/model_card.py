"""The model card of an exported student: what it is, how good it was on held-back rows, and what it is not for."""

from __future__ import annotations

from collections import Counter

import numpy as np

from models.backend import tf
from pipeline import storage
from pipeline.card_facts import CardFacts
from pipeline.card_page import Card, as_html, as_markdown
from pipeline.card_rows import read_figures
from pipeline.card_sections import MARKDOWN, PAGE, sections, summary
from pipeline.card_time import time_span
from pipeline.exported_model import ExportedModel
from pipeline.packages import package_versions
from pipeline.workspace import EXAMPLES, Run


def write_model_card(run: Run, stage: str, folder: str) -> None:
    """Writes :data:`MARKDOWN` and :data:`PAGE` into the folder of a student.

    The held-back rows of the run are scored with the student as it lies there, by its signature ``features``.

    Args:
        run: that the student was made in; it may be unfinished.
        stage: of the student, ``students/METHOD`` or a folder below.
        folder: of its SavedModel.
    """
    model = ExportedModel(folder)
    facts = CardFacts(
        run,
        stage,
        folder,
        _variables(folder),
        model.calibration,
        read_figures(run, model.logits),
        time_span(run.manifest(EXAMPLES)["inputs"], run.spec().schema),
        package_versions(),
    )
    card = Card(f"Model card: {stage}", summary(facts), sections(facts))
    storage.write_bytes(storage.join(folder, MARKDOWN), as_markdown(card).encode())
    storage.write_bytes(storage.join(folder, PAGE), as_html(card).encode())


def _variables(folder: str) -> dict[str, int]:
    """Numbers in the variables of a SavedModel, by dtype; TensorFlow keeps texts on its own objects beside them."""
    reader = tf.train.load_checkpoint(storage.join(folder, "variables/variables"))
    counts: Counter[str] = Counter()
    for name, shape in reader.get_variable_to_shape_map().items():
        dtype = reader.get_variable_to_dtype_map()[name]
        if dtype != tf.string:
            counts[dtype.name] += int(np.prod(shape))
    return dict(counts.most_common())
