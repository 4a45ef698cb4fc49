"""Who runs a grid: options that go together, threads of a job, and what is asked of packages that may not be installed."""

import dataclasses
import sys
import types
from typing import Any

import pytest
from grids import make_stores, write_recipe

import tcs.grid.jobs
from tcs.config.evaluate import FewshotConfig
from tcs.errors import ConfigError
from tcs.grid.jobs import threads_of, worker_environment
from tcs.grid.run import fewshot, run_task
from tcs.grid.submitit_engine import Part, run_array


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"jobs": 0}, "--jobs is 0; it must be 1 or more"),
        ({"engine": "rey"}, r"--engine is 'rey'; it must be one of local, ray, submitit\. Did you mean ray"),
        (
            {"slurm": ("partition=gpu",)},
            "--slurm is partition=gpu, and --engine is local; it goes with --engine submitit",
        ),
        ({"engine": "submitit", "slurm": ("gpu",)}, "--slurm is 'gpu'; write KEY=VALUE, as partition=gpu"),
        ({"engine": "submitit", "slurm": ("a-b=1",)}, "--slurm is 'a-b=1'; write KEY=VALUE"),
        ({"engine": "submitit", "cells": "1/2"}, "--cells is 1/2, and --engine submitit gives each job .* a part"),
    ],
)
def test_options_that_make_no_sense_are_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        FewshotConfig(recipe="r.yaml", out="grid", **options)


@pytest.mark.parametrize(
    ("jobs", "given", "threads"),
    [(1, None, 8), (3, None, 2), (16, None, 1), (2, "3", 3), (2, "16", 4), (2, "", 4), (2, "many", 4), (2, "0", 4)],
)
def test_jobs_share_the_cores(monkeypatch: pytest.MonkeyPatch, jobs: int, given: str | None, threads: int) -> None:
    monkeypatch.setattr(tcs.grid.jobs, "cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", given)
    assert threads_of(jobs) == threads
    assert worker_environment(jobs)["OMP_NUM_THREADS"] == str(threads)


@pytest.mark.parametrize("engine", ["ray", "submitit"])
def test_an_engine_that_is_not_installed_is_named_with_its_extra(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    recipe = write_recipe(make_stores(tmp_path))
    monkeypatch.setitem(sys.modules, engine, None)  # importing it is an ImportError
    with pytest.raises(ConfigError, match=rf'needs the package {engine} \(.*\); pip install "tcs-distill\[{engine}\]"'):
        fewshot(FewshotConfig(recipe=str(recipe), out=str(tmp_path / "grid"), engine=engine))


class Executor:
    """What the toolkit asks of submitit.AutoExecutor."""

    def __init__(self, folder: Any, cluster: str | None, slurm_max_num_timeout: int) -> None:
        self.folder, self.cluster, self.parameters = folder, cluster, dict[str, Any]()
        self.requeues = slurm_max_num_timeout

    def update_parameters(self, **parameters: Any) -> None:
        if "slurm_wrong" in parameters:
            raise NameError("Unknown argument(s): slurm_wrong")
        self.parameters |= parameters

    def map_array(self, work: Any, given: Any) -> list[Any]:
        if self.parameters.get("slurm_partition") == "gone":
            raise RuntimeError(
                "sbatch: error: invalid partition specified: gone\nsbatch: error: Batch job submission failed"
            )
        return [types.SimpleNamespace(job_id=f"77_{at}", work=work, given=one, by=self) for at, one in enumerate(given)]


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that submits SLURM jobs, as far as the toolkit sees of it."""
    helpers = types.SimpleNamespace(DelayedSubmission=lambda *given: ("queue again", *given))
    monkeypatch.setitem(sys.modules, "submitit", types.SimpleNamespace(AutoExecutor=Executor, helpers=helpers))
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")


@pytest.mark.usefixtures("cluster")
def test_an_array_has_a_part_of_the_grid_in_each_job(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    slurm = ("partition=gpu", "timeout_min=120", "array_parallelism=2")
    config = FewshotConfig(recipe="r.yaml", out=str(tmp_path), engine="submitit", jobs=3, slurm=slurm, device="cuda")
    jobs = run_array(config, fewshot)
    plain = dataclasses.replace(config, engine="local", jobs=1, slurm=())
    assert [job.given for job in jobs] == [dataclasses.replace(plain, cells=f"{part}/3") for part in (1, 2, 3)]
    assert {job.work for job in jobs} == {Part(fewshot)}
    assert jobs[0].by.parameters == {
        "name": "tcs-fewshot",
        "slurm_partition": "gpu",
        "timeout_min": 120,
        "slurm_array_parallelism": 2,
    }
    assert jobs[0].by.folder == tmp_path / "logs" / "slurm"
    assert jobs[0].by.requeues == 100
    assert "3 parts are submitted as job 77; their logs are in " in capsys.readouterr().err
    assert run_array(dataclasses.replace(config, slurm=()), fewshot)[0].by.parameters["timeout_min"] == 240


@pytest.mark.usefixtures("cluster")
@pytest.mark.parametrize(
    ("slurm", "message"),
    [
        ("wrong=1", r"cannot submit with --slurm wrong=1: Unknown argument\(s\): slurm_wrong"),
        (
            "partition=gone",
            r"--slurm partition=gone: sbatch: error: invalid partition specified: gone sbatch: error: Batch ",
        ),
    ],
)
def test_what_slurm_refuses_is_one_line(tmp_path: Any, slurm: str, message: str) -> None:
    config = FewshotConfig(recipe="r.yaml", out=str(tmp_path), engine="submitit", slurm=(slurm,))
    with pytest.raises(ConfigError, match=message):
        run_array(config, fewshot)


@pytest.mark.usefixtures("cluster")
def test_without_slurm_nothing_is_started(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ConfigError, match=r"finds no sbatch on this machine; .* or use --jobs N"):
        run_array(FewshotConfig(recipe="r.yaml", out=str(tmp_path), engine="submitit"), fewshot)


@pytest.mark.usefixtures("cluster")
def test_a_job_that_is_told_to_end_has_its_part_queued_again() -> None:
    config = FewshotConfig(recipe="r.yaml", out="grid", cells="2/3")
    part = Part(lambda given: 7 if given == config else -1)
    assert part(config) == 7
    assert part.checkpoint(config) == ("queue again", part, config)


def test_a_task_runs_the_cells_that_it_is_given_and_no_others(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tcs.grid.bench import open_grid
    from tcs.grid.ledger import claim_folder, load_results

    recipe = write_recipe(make_stores(tmp_path), methods=["labels"])
    config = FewshotConfig(recipe=str(recipe), out=str(tmp_path / "grid"))
    opened = open_grid(config)
    claim_folder(tmp_path / "grid", opened.grid, recipe, opened.benches[""].origin)
    monkeypatch.chdir(tmp_path)
    (group,) = [group for group in opened.groups if len(group) == 2]
    ended = run_task(str(tmp_path), dataclasses.asdict(config), [cell.digest for cell in group], 0)
    assert [(cell, state) for cell, _, state in ended] == [(cell.digest, "done") for cell in group]
    assert {row["method"] for row in load_results(tmp_path / "grid" / "results.csv")} == {"labels"}
    assert run_task(str(tmp_path), dataclasses.asdict(config), [cell.digest for cell in group], 0) == []
