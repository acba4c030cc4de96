"""Training: examples/s of a 400-400-400 teacher against its limit and named peers in one sitting.

--parts chooses among:

- step: the teacher with lazy Adam and with Adagrad for its table, and the limit: the same step with the gradient of the
  looked-up embeddings computed, but the table left alone;
- peers: our teacher on their inputs, that is without its look-up of the numbers' buckets (26 columns instead of 39);
  the same network written the usual way in tf-keras, fed from memory and from 40-feature Examples
  (training_usual.py), Keras 3 with keras-rs (peers/keras_rs), FuxiCTR on PyTorch (peers/fuxictr), each with Adam and
  Adagrad for everything;
- student: a student of embeddings of 4 floats and 32 hidden units that learns subclass targets;
- precision: the teacher with lazy Adam and its hidden layers' products in bfloat16;
- memory: peak of the process that trains on the largest table, beyond that with a table of 1,000 rows, over the bytes
  of the table (17 floats a row, one of them for the linear part).

26 categorical columns of equal size share the table's rows, 13 numbers, embeddings of 16 floats, batches of 4096 rows;
no dropout, averaging or click statistics. 64 batches, drawn once, lie in memory, the same for all (the student by
default: in batches of 1024). What each does less or more than our teacher stands at the top of its script; the last two
have their own venvs, which are made when they are first chosen. A peer that fails has a reason in place of figures.

Each measurement runs in a fresh process, one after another in rounds. Counted are steps alone, after some steps that
are not: not the start, not building or compiling.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from common import measure, print_result, run_child, timed, write_json
from training_plan import DISTRIBUTIONS, PARTS, PEERS, Plan, find_ratios


def make_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--parts", type=names_of(PARTS), default=list(PARTS), help="with commas (default: all)")
    add("--tables", type=rows_of, default=[100_000, 1_000_000, 5_000_000], help="rows, with commas (%(default)s)")
    add("--ids", type=names_of(DISTRIBUTIONS), default=list(DISTRIBUTIONS), help="with commas (default: both)")
    add("--peers", type=names_of(tuple(PEERS)), default=list(PEERS), help="with commas (default: all)")
    add("--steps", type=int, default=200, help="counted steps of ours (%(default)s)")
    add("--peer-steps", type=int, default=40, help="counted steps of a peer (%(default)s)")
    add("--warm-up", type=int, default=5, help="steps before them (%(default)s)")
    add("--threads", type=int, default=2, help="of every process (%(default)s)")
    add("--repeats", type=int, default=3, help="times that each measurement is made; the median counts (%(default)s)")
    add("--work", type=Path, default=Path("runs/benchmarks"), help="folder that keeps the batches (%(default)s)")
    add("--json", type=Path, help="where the numbers go")
    for name, kind in {"child": str, "batches": Path, "table": int, "optimizer": str, "distribution": str}.items():
        add(f"--{name}", type=kind, help=argparse.SUPPRESS)
    add("--precision", default="float32", help=argparse.SUPPRESS)
    for name in ("parsed", "defaults", "equal"):
        add(f"--{name}", type=int, default=0, help=argparse.SUPPRESS)
    return parser


def names_of(known: Sequence[str]) -> Any:
    """A reader of names with commas that must be among the known ones."""

    def read(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"must be among {', '.join(known)}; received {unknown[0]}")
        return names

    return read


def rows_of(text: str) -> list[int]:
    """Numbers of rows with commas."""
    return [int(part) for part in text.split(",")]


def with_threads(options: argparse.Namespace) -> None:
    """Gives TensorFlow the threads that a measurement may have."""
    from models.backend import tf

    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)


def draw(options: argparse.Namespace) -> dict[str, Any]:
    """Writes the batches of a case; nothing to do the second time."""
    from training_batches import BATCH, BATCHES, write_batches

    def work() -> None:
        write_batches(options.batches, options.table, options.distribution)
        if options.parsed:
            from training_usual import write_examples

            write_examples(options.batches)

    return {"rows": BATCHES * BATCH, **timed(work)}


def teacher(options: argparse.Namespace) -> dict[str, Any]:
    """Our teacher."""
    import training_ours

    with_threads(options)
    return training_ours.teacher(options)


def student(options: argparse.Namespace) -> dict[str, Any]:
    """Our student."""
    import training_ours

    with_threads(options)
    return training_ours.student(options)


def usual(options: argparse.Namespace) -> dict[str, Any]:
    """The tf-keras peers."""
    import training_usual

    with_threads(options)
    return training_usual.usual(options)


def main() -> None:
    """Draws the batches, measures everything, prints the table and the ratios."""
    options = make_parser().parse_args()
    if options.child:
        run_child({"draw": draw, "teacher": teacher, "student": student, "usual": usual}, options)
        return
    plan = Plan(options)
    options.work.mkdir(parents=True, exist_ok=True)
    for drawn in measure(__file__, list(plan.drawn()), 1):
        if drawn.reason:
            raise SystemExit(f"There must be batches to measure. Received: {drawn.reason}")
    outcomes = measure(__file__, list(plan.measured()), options.repeats, plan.failed())
    found = find_ratios(outcomes, plan)
    print_result(outcomes, found)
    write_json(options.json, outcomes, found)


if __name__ == "__main__":
    main()
