import logging
import os

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import DirectOptions, GoogleCloudOptions, StandardOptions, WorkerOptions

from features.errors import ArtifactError, ConfigError, CtrDistillError, DataError
from pipeline.beam import make_options, run_pipeline

MESSAGE = "A log must be whole. Received: features.errors are not (log.tsv, byte 7)."


class Fail(beam.DoFn):
    """Raises an error for the element."""

    def __init__(self, kind: type[Exception], message: str) -> None:
        self._kind, self._message = kind, message

    def process(self, element: int) -> None:
        try:
            raise DataError("The cause must not be taken for the error. Received: it.")
        except DataError as error:
            raise self._kind(self._message) from error


def run(kind: type[Exception], message: str, arguments: list[str], workers: int) -> None:
    pipeline = beam.Pipeline(options=make_options(arguments, workers))
    _ = pipeline | beam.Create([1, 2, 3]) | beam.Reshuffle() | beam.ParDo(Fail(kind, message))
    run_pipeline(pipeline)


class TestRunPipeline:
    @pytest.mark.parametrize("kind", [DataError, ConfigError, ArtifactError])
    @pytest.mark.parametrize("arguments", [[], ["--direct_running_mode=in_memory"]])
    def test_an_error_of_ours_arrives_as_it_was_raised(
        self,
        kind: type[CtrDistillError],
        arguments: list[str],
        caplog: pytest.LogCaptureFixture,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        with pytest.raises(CtrDistillError) as error:
            run(kind, MESSAGE, arguments, 1)
        assert type(error.value) is kind
        assert str(error.value) == MESSAGE
        # One line is the command line's to print; Beam's tracebacks do not stand before it.
        assert capsys.readouterr().err == ""
        assert not [record for record in caplog.records if record.levelno >= logging.ERROR]

    def test_of_several_lines_the_first_one_arrives(self) -> None:
        with pytest.raises(DataError, match=r"^One\.$"):
            run(DataError, "One.\nTwo.", [], 2)

    def test_another_error_keeps_its_traceback(
        self, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(Exception, match="a bug of ours") as error:
            run(ZeroDivisionError, "a bug of ours", ["--direct_running_mode=in_memory"], 1)
        assert not isinstance(error.value, CtrDistillError)

    def test_a_job_that_ends_well(self, capsys: pytest.CaptureFixture[str]) -> None:
        pipeline = beam.Pipeline(options=make_options())
        _ = pipeline | beam.Create([1, 2, 3]) | beam.Reshuffle() | beam.Map(print)
        run_pipeline(pipeline)
        assert sorted(capsys.readouterr().out.split()) == ["1", "2", "3"]


class TestMakeOptions:
    def test_the_local_runner_with_threads(self) -> None:
        for workers in (None, 3):
            options = make_options((), workers)
            assert options.view_as(StandardOptions).runner == "FnApiRunner"
            direct = options.view_as(DirectOptions)
            assert direct.direct_running_mode == "multi_threading"
            assert direct.direct_num_workers == (workers or os.cpu_count())

    def test_what_the_user_says_counts(self) -> None:
        options = make_options(["--direct_num_workers=1", "--direct_running_mode", "multi_processing"])
        direct = options.view_as(DirectOptions)
        assert (direct.direct_num_workers, direct.direct_running_mode) == (1, "multi_processing")

    def test_options_of_other_runners(self) -> None:
        options = make_options(
            ["--runner=DataflowRunner", "--project=p", "--temp_location=gs://b/t", "--max_num_workers", "7"]
            + ["--experiment=one", "--experiment=two"]
        )
        assert options.view_as(StandardOptions).runner == "DataflowRunner"
        assert options.view_as(GoogleCloudOptions).temp_location == "gs://b/t"
        assert options.view_as(WorkerOptions).max_num_workers == 7
        assert options.get_all_options()["experiments"] == ["one", "two"]
        assert options.view_as(DirectOptions).direct_running_mode == "in_memory"

    @pytest.mark.parametrize(
        ("arguments", "received"),
        [
            (["--bogus=1"], "--bogus=1"),
            (["--project=p", "--max_num_worker=3"], "--max_num_worker=3"),
            (["stray"], "stray"),
            (["--direct_num_workers=many"], "argument --direct_num_workers: invalid int value: 'many'"),
            (["--project"], "argument --project: expected one argument"),
        ],
    )
    def test_wrong(self, arguments: list[str], received: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(ConfigError, match=r"must be .* Received: .*\(command line\)\.$") as error:
            make_options(arguments)
        assert received in str(error.value) and "\n" not in str(error.value)
        assert capsys.readouterr() == ("", "")

    @pytest.mark.parametrize("workers", [0, -1])
    def test_no_workers(self, workers: int) -> None:
        with pytest.raises(ConfigError, match=r"--workers must be positive\. Received: "):
            make_options((), workers)
