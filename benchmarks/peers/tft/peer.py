"""TensorFlow Transform as a peer: a Criteo-format log as TensorFlow's Model Garden preprocesses it, in one job.

The steps are those of its ranking model's ``criteo_preprocess.py``, written anew: text steps in Beam, a row at a time
(missing -> 0, negative integer -> 0, log(x + 1), hexadecimal value modulo a limit), then a vocabulary a column by
``tft.compute_and_apply_vocabulary``, then lines of text.

Less than ``preprocess``: no split (the vocabularies come from all rows), no standardisation, no counts and clicks by
fold, no rejects (a bad line ends the job), missing and "0" are one value. More: nothing. The Model Garden reads the
log twice, in two jobs; this one computes and applies its vocabularies in one, which is the shorter way.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import apache_beam as beam
import tensorflow as tf
import tensorflow_transform as tft
import tensorflow_transform.beam as tft_beam
from apache_beam.options.pipeline_options import PipelineOptions
from tensorflow_transform.tf_metadata import schema_utils
from tfx_bsl.public import tfxio

LABEL = "label"
NUMERIC = tuple(f"I{i}" for i in range(1, 14))
CATEGORICAL = tuple(f"C{i}" for i in range(1, 27))
COLUMNS = (LABEL, *NUMERIC, *CATEGORICAL)
MAX_VALUES = 10_000_000
"""Values are taken modulo this number."""

# The local runner by name, because Beam's default looks for another one on the network; one thread, because in
# threads this runner loses rows.
RUNNER = ("--runner=FnApiRunner", "--direct_running_mode=in_memory")


class FillMissing(beam.DoFn):
    """Missing fields to "0"."""

    def process(self, fields: list[str]) -> Any:
        """Keeps the order."""
        yield [field or "0" for field in fields]


class LogNumbers(beam.DoFn):
    """Numeric fields to log(x + 1), negative ones to 0."""

    def process(self, fields: list[str]) -> Any:
        """Keeps label and values."""
        last = 1 + len(NUMERIC)
        numbers = [str(math.log(max(int(field), 0) + 1)) for field in fields[1:last]]
        yield [fields[0], *numbers, *fields[last:]]


class HexToInteger(beam.DoFn):
    """Hexadecimal values to integers below the limit, and the row to a line again."""

    def process(self, fields: list[str]) -> Any:
        """Yields bytes, as the reader of lines wants."""
        first = 1 + len(NUMERIC)
        values = [str(int(field, 16) % MAX_VALUES) for field in fields[first:]]
        yield "\t".join([*fields[:first], *values]).encode()


def apply_vocabularies(inputs: dict[str, Any]) -> dict[str, Any]:
    """The preprocessing function: integers to ids by falling count; label and numbers as they are."""
    ids = {
        name: tft.compute_and_apply_vocabulary(inputs[name], vocab_filename=f"{name}_vocabulary")
        for name in CATEGORICAL
    }
    return {**{name: inputs[name] for name in (LABEL, *NUMERIC)}, **ids}


def schema() -> Any:
    """Label and numbers float32, values int64."""
    types = dict.fromkeys((LABEL, *NUMERIC), tf.float32) | dict.fromkeys(CATEGORICAL, tf.int64)
    features = {name: tf.io.FixedLenFeature([], kind) for name, kind in types.items()}
    return schema_utils.schema_from_feature_spec(features)


def run(log: Path, output: Path, scratch: Path) -> None:
    """Runs the job.

    Args:
        log: Criteo-format log.
        output: prefix of the files of lines.
        scratch: folder of its own for the vocabularies.
    """
    source = tfxio.BeamRecordCsvTFXIO(
        physical_format="text", column_names=list(COLUMNS), delimiter="\t", schema=schema()
    )
    with beam.Pipeline(options=PipelineOptions(list(RUNNER))) as pipeline, tft_beam.Context(temp_dir=str(scratch)):
        batches = (
            pipeline
            | "Read" >> beam.io.ReadFromText(str(log))
            | "Split" >> beam.Map(lambda line: line.split("\t"))
            | "FillMissing" >> beam.ParDo(FillMissing())
            | "LogNumbers" >> beam.ParDo(LogNumbers())
            | "HexToInteger" >> beam.ParDo(HexToInteger())
            | "Decode" >> source.BeamSource()
        )
        (rows, metadata), _ = (batches, source.TensorAdapterConfig()) | tft_beam.AnalyzeAndTransformDataset(
            apply_vocabularies, output_record_batches=False
        )
        coder = tft.coders.CsvCoder(COLUMNS, metadata.schema, delimiter="\t")
        _ = rows | "Encode" >> beam.Map(coder.encode) | "Write" >> beam.io.WriteToText(str(output))


def count_lines(folder: Path) -> int:
    """Lines of the files that the job wrote."""
    return sum(path.read_bytes().count(b"\n") for path in folder.glob("out*"))


def main() -> None:
    """Runs the job once and prints its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--work", type=Path, required=True)
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="tft-", dir=options.work) as name:
        folder = Path(name)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        run(options.log, folder / "out", folder / "scratch")
        times = {"seconds": time.perf_counter() - begun, "cpu_seconds": time.process_time() - begun_cpu}
        rows = count_lines(folder)
    if rows != options.rows:
        raise ValueError(f"TensorFlow Transform must write every row. Received: {rows} of {options.rows}.")
    print(json.dumps({"rows": rows, **times}))


if __name__ == "__main__":
    main()
