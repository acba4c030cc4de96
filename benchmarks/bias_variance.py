"""Distillation as statistics (Menon et al., 2021, https://arxiv.org/abs/2005.10419), on a log whose p* is known.

python benchmarks/bias_variance.py [--rows 200000] [--run RUN] [--fractions 0.01 0.05] [--seeds 3] [--json OUT]

1. Identity: the variance of the risk with labels over drawn labels, beside (1 / N^2) sum p* (1 - p*) f^2.
2. Risks with labels, p* and the teacher's p_t over drawn rows and labels: their variances and biases.
3. Students of several alphas on some fractions of the rows: the excess over Bayes, beside the alpha that squared bias
   plus variance at the logits of the student of alpha 0 would have.
4. Students of teachers whose logits are scaled and shifted: whether their excess ranks as mean (p_t - p*)^2 does.

The excess is the mean KL(p*, p) of the test rows, before the student's calibration and after it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import generated_log
from paired import make_run

from models.calibration import Calibration
from models.diagnosis import Risk, RiskMoments
from models.estimates import sigmoid, subclass_click_logits, with_click_logits
from models.methods import METHODS
from pipeline.calibrate import calibrate
from pipeline.compare_jobs import click_logits
from pipeline.config import Config
from pipeline.evaluate import read_pairs
from pipeline.fitting import Circumstances
from pipeline.precompute import write_targets
from pipeline.stage_inputs import example_files
from pipeline.stored_rows import read_with_targets
from pipeline.student_data import StudentData
from pipeline.student_part import train_student
from pipeline.subset import subset, subset_targets
from pipeline.truth import read_truths
from pipeline.workspace import EXAMPLES, TARGETS, Run

DRAWS = 20_000
SAMPLE = 1000
TEACHERS = [*((scale, 0.0) for scale in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)), (1.0, -0.5), (1.0, 0.5), (1.0, 1.0)]
"""Scale and shift of the teacher's click logits."""


def main() -> None:
    """Makes what is missing, and prints the four tables."""
    options = parse_arguments()
    run, result = Run(options.run) if options.run else taught_run(options), dict[str, Any](alphas=[])
    for fraction in options.fractions:
        part, alphas = Part.of(run, fraction, options.work), [0.0, *options.alphas]
        students = [part.students({"alpha": alpha}, options.seeds, part.data) for alpha in alphas]
        if not result["alphas"]:
            logits = students[0][0][0]
            result |= {"identity": identity(part.rows, logits), "risks": risks(part.rows, logits)}
        result["alphas"] += alpha_table(part, alphas, students)
    result["teachers"] = teacher_table(part, options.seeds)
    ranks = pd.DataFrame(result["teachers"]).rank()
    result["spearman"] = {name: float(ranks["teacher_error"].corr(ranks[name])) for name in ("excess", "calibrated")}
    for name in ("risks", "alphas", "teachers"):
        print(f"\n{name}\n{pd.DataFrame(result[name]).to_string(index=False, float_format='{:.6g}'.format)}")
    drawn, computed = result["identity"].values()
    result["ratios"] = {"variance over drawn labels vs formula": drawn / computed}
    print(result["ratios"], "rank correlation of excess and teacher_error:", result["spearman"], sep="\n")
    if options.json:
        Path(options.json).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def parse_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=200_000, help="rows of the generated log (default: %(default)s)")
    parser.add_argument("--run", help="a run of a generated log with finished targets; else one is made")
    parser.add_argument("--work", type=Path, default=Path("runs/bias-variance"), help="folder (default: %(default)s)")
    parser.add_argument("--seeds", type=int, default=3, help="students of each setting (default: %(default)s)")
    parser.add_argument("--fractions", nargs="+", type=float, default=[0.01, 0.05], help="of the training rows")
    parser.add_argument("--alphas", nargs="+", type=float, default=[0.25, 0.5, 0.75, 0.9, 1], help="beside 0")
    parser.add_argument("--json", help="file for the results")
    return parser.parse_args()


def taught_run(options: argparse.Namespace) -> Run:
    """Examples, teacher and targets of a generated log."""
    teacher = Config().for_rows(options.rows).teacher_config()
    return make_run(str(generated_log(options.work, options.rows)), options.work / f"run-{options.rows}", teacher)


@dataclass(frozen=True)
class Rows:
    """Test rows: float64 [rows] each.

    Args:
        p_star: true click probabilities.
        teacher: click logits of the teacher.
    """

    p_star: np.ndarray
    teacher: np.ndarray

    @classmethod
    def of(cls, run: Run) -> Rows:
        """Those of a run of generated logs."""
        manifest = run.manifest(TARGETS)
        truths = read_truths([item["path"] for item in run.manifest(EXAMPLES)["inputs"]])
        assert truths is not None, "the log must have been generated"
        shards, found = {shard["path"]: shard for shard in manifest["shards"]}, []
        for shard in run.filled_shards("test"):
            for source, block, target in read_pairs(run, shard, shards[shard["path"]], manifest["teacher"]):
                found.append((truths[source].find(block.offsets)[0], subclass_click_logits(target.logits)))
        return cls(*(np.concatenate(parts) for parts in zip(*found, strict=True)))

    def excess(self, logits: np.ndarray) -> float:
        """Mean KL(p*, p) in nats."""
        p = self.p_star
        entropy = -(p * np.log(p) + (1 - p) * np.log1p(-p))
        return float((np.logaddexp(0, logits) - p * logits - entropy).mean())

    def risk(self, logits: np.ndarray, rows: int | None = None, scale: float = 1.0, shift: float = 0.0) -> Risk:
        """Terms of the risk of so many rows at a student's logits, with the teacher's logits scaled and shifted."""
        teacher = sigmoid(scale * self.teacher + shift)
        return RiskMoments.empty().update(self.p_star, teacher, logits).risk(rows)


@dataclass(frozen=True)
class Part:
    """A share of a run's training rows.

    Args:
        run: of these rows, with targets.
        fraction: the share.
        config: with the preset for so many rows.
        data: what a student of ``kd`` is trained on.
        rows: the test rows.
    """

    run: Run
    fraction: float
    config: Config
    data: StudentData
    rows: Rows

    @classmethod
    def of(cls, run: Run, fraction: float, work: Path) -> Part:
        """That of a run, made unless it is there."""
        path = work / f"part-{run.identity(TARGETS)}-{fraction:g}"
        with Run(str(path)).lock():
            part = subset(run, str(path), fraction)
            subset_targets(run, part)
        config = Config().for_rows(part.spec().rows["train"])
        return cls(part, fraction, config, StudentData.read(part, METHODS["kd"]), Rows.of(part))

    def students(self, settings: dict[str, Any], seeds: int, data: StudentData) -> list[tuple[np.ndarray, np.ndarray]]:
        """Click logits of the test rows, as trained and calibrated, of the students of some seeds."""
        return [self._student({**settings, "seed": seed}, data) for seed in range(seeds)]

    def _student(self, settings: dict[str, Any], data: StudentData) -> tuple[np.ndarray, np.ndarray]:
        config = replace(self.config, student=settings).student_config("kd")
        with tempfile.TemporaryDirectory() as folder:
            trained = train_student(data, "kd", config, Circumstances(lambda _, __: None, folder))
        assert data.validation is not None
        raw = click_logits(trained.student, Calibration(), example_files(self.run, data.spec, "test"))
        calibrated = calibrate(trained.student, data.validation).apply(raw)
        print(
            f"{self.fraction:g} {settings} {self.rows.excess(raw):.5f} {self.rows.excess(calibrated):.5f}", flush=True
        )
        return raw, calibrated

    def taught_by(self, scale: float, shift: float) -> StudentData:
        """The data with a teacher whose click logits are scaled and shifted; its other logits follow."""
        folder, manifest = Path(self.run.path) / f"teacher-{scale:g}-{shift:g}", self.run.manifest(TARGETS)
        folder.mkdir(exist_ok=True)
        paths = []
        for source, targets in zip(self.data.training.examples, self.data.training.targets, strict=True):
            changed = iter(
                with_click_logits(target.logits, scale * subclass_click_logits(target.logits) + shift)
                for _, target in read_with_targets(source, targets, manifest["teacher"])
            )
            paths.append(str(folder / Path(targets).name))
            write_targets(source, paths[-1], lambda _, changed=changed: next(changed), folder.name)  # type: ignore[misc]
        return replace(self.data, training=replace(self.data.training, targets=paths, teacher=folder.name))


def identity(rows: Rows, logits: np.ndarray) -> dict[str, float]:
    """The variance of the risk of some rows over drawn labels, and what the formula says."""
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(logits), min(SAMPLE, len(logits)), replace=False)
    p, f = rows.p_star[chosen], logits[chosen]
    # Only this part of the risk depends on the labels.
    drawn = np.concatenate([(rng.random((1000, len(f))) < p) @ f / len(f) for _ in range(DRAWS // 1000)])
    computed = RiskMoments.empty().update(p, p, f).risk().variance
    return {"drawn": float(drawn.var()), "computed": computed}


def risks(rows: Rows, logits: np.ndarray) -> list[dict[str, Any]]:
    """Variance and bias of the risk of drawn rows with labels, p* or p_t as targets, and how much less variance."""
    rng, p_teacher, found = np.random.default_rng(0), sigmoid(rows.teacher), []
    for _ in range(DRAWS // 500):
        chosen = rng.integers(len(logits), size=(500, SAMPLE))
        p, f = rows.p_star[chosen], logits[chosen]
        targets = (rng.random(p.shape) < p, p, p_teacher[chosen])
        found.append([(np.logaddexp(0, f) - target * f).mean(axis=1) for target in targets])
    drawn = np.concatenate(found, axis=1)
    truth = float((np.logaddexp(0, logits) - rows.p_star * logits).mean())
    names, computed = ("labels", "p*", "teacher"), (0.0, 0.0, rows.risk(logits).bias)
    return [
        {
            "targets": name,
            "variance": float(risk.var()),
            "reduction": float(drawn[0].var() / risk.var()),
            "bias": float(risk.mean() - truth),
            "computed_bias": bias,
            "squared_error": float(((risk - truth) ** 2).mean()),
        }
        for name, risk, bias in zip(names, drawn, computed, strict=True)
    ]


def summary(rows: Rows, students: list[tuple[np.ndarray, np.ndarray]]) -> dict[str, float]:
    """Mean excess of the students of some seeds, as trained and calibrated, and its deviation between seeds."""
    raw, calibrated = (np.array([rows.excess(logits) for logits in each]) for each in zip(*students, strict=True))
    return {"excess": float(raw.mean()), "sd": float(raw.std()), "calibrated": float(calibrated.mean())}


def alpha_table(part: Part, alphas: Sequence[float], students: list[Any]) -> list[dict[str, Any]]:
    """The excess by alpha, and the alpha that is predicted for so many rows."""
    rows = part.data.spec.rows["train"]
    risk = part.rows.risk(students[0][0][0], rows)
    terms = {"predicted_alpha": risk.alpha, "bias": risk.bias, "variance": risk.variance}
    own = {"fraction": part.fraction, "rows": rows}
    return [{**own, "alpha": a, **summary(part.rows, each), **terms} for a, each in zip(alphas, students, strict=True)]


def teacher_table(part: Part, seeds: int) -> list[dict[str, Any]]:
    """Error of each teacher, and the excess of the students that learn from it alone."""
    found = []
    for scale, shift in TEACHERS:
        students = part.students({"alpha": 1.0}, seeds, part.taught_by(scale, shift))
        error = part.rows.risk(students[0][0], None, scale, shift).teacher_error
        found.append({"scale": scale, "shift": shift, "teacher_error": error, **summary(part.rows, students)})
    return found


if __name__ == "__main__":
    main()
