"""What workers find out and plan when they are started, with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import msgspec
import numpy as np
import pytest

from sluice.inference.config.model_config import BatchingConfig, ModelConfig, WorkersConfig
from sluice.inference.errors import ModelLoadError
from sluice.inference.findings import Evidence
from sluice.inference.planning.machine import available_cores
from sluice.inference.planning.options import WorkerOptions, plan_terms, worker_options
from sluice.inference.serving_plan import PlanTerms
from sluice.inference.transport.messages import KnownVersion, Load
from sluice.inference.types import Vacancy
from sluice.inference.workers import pool as workers_module
from sluice.inference.workers.process import WorkerProcess
from tests import influences, models
from tests.inference.running import ONE_WORKER, children, nothing_left, running, until


async def test_a_model_is_measured_when_it_loads(tmp_path: Path) -> None:
    async with running(models.mlp(), tmp_path, WorkerOptions(count=1, intra_op_threads=1)) as (workers, _):
        plan = workers.plan
        assert [knot.rows for knot in plan.knots][:3] == [1, 2, 4]
        times_s = [knot.run_s for knot in plan.knots]
        assert times_s == sorted(times_s)
        assert times_s[0] > 0
        assert (plan.workers, plan.intra_op_threads) == (1, 1)
        assert plan.max_rows in [knot.rows for knot in plan.knots]
        assert len(plan.reasons) == 2


async def test_explicit_rows_are_measured_up_to_themselves(tmp_path: Path) -> None:
    options = WorkerOptions(count=1, intra_op_threads=1, max_rows=6)
    async with running(models.linear(), tmp_path, options) as (workers, _):
        assert [knot.rows for knot in workers.plan.knots] == [1, 2, 4, 6]
        assert workers.plan.max_rows == 6


async def test_a_model_that_is_not_batched_has_one_knot(tmp_path: Path) -> None:
    async with running(models.fixed_rows(3), tmp_path) as (workers, _):
        assert [knot.rows for knot in workers.plan.knots] == [1]
        assert workers.plan.max_rows == 1


async def test_a_model_that_refuses_random_inputs_has_no_knots(tmp_path: Path) -> None:
    async with running(models.lookup(0), tmp_path) as (workers, _):
        assert workers.plan.knots == ()
        assert workers.plan.max_rows == 64


async def test_all_workers_run_as_the_first_one_planned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[Load] = []
    started = WorkerProcess.start

    async def start(order: Load, *others: object) -> WorkerProcess:
        orders.append(order)
        return await started(order, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(WorkerProcess, "start", start)
    with nothing_left():
        async with running(models.tiny(), tmp_path, WorkerOptions(count=3)) as (workers, listener):
            assert workers.vacancy() == Vacancy(3, 0, 3)
            os.kill(workers.statistics().pids[0], signal.SIGKILL)
            await listener.until_idle(workers, 2)
            await until(lambda: len(orders) == 4)
            await listener.until_idle(workers, 3)
    assert isinstance(orders[0].plan, PlanTerms)
    assert [order.plan for order in orders[1:]] == [workers.plan] * 3  # and the replacement measures nothing
    assert [order.known for order in orders] == [None, *[KnownVersion(workers.signature, workers.findings)] * 3]


async def test_threads_are_explored_in_one_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def terms(options: WorkerOptions) -> PlanTerms:
        return msgspec.structs.replace(plan_terms(options), cores=4)

    monkeypatch.setattr(workers_module, "plan_terms", terms)
    before = len(children())  # a server of other tests may run
    with nothing_left():
        async with running(models.tiny(), tmp_path, WorkerOptions(count=1)) as (workers, _):
            assert len(children()) == before + 1
            assert workers.plan.intra_op_threads in (1, 2, 3)
            said = workers.plan.reasons
            assert all(f"with {words}" in said[0] for words in ("1 thread", "2 threads", "3 threads")), said
            x = (np.ones((2, 4), np.float32),)
            assert (await workers.run([x], ["y"])).outputs[0].shape == (2, 3)


async def test_a_model_that_must_be_batched_and_mixes_rows_is_refused(tmp_path: Path) -> None:
    options = msgspec.structs.replace(ONE_WORKER, batched=True)
    with nothing_left(), pytest.raises(ModelLoadError, match=r'batched = true demands .* set it to "unchecked"'):
        async with running(models.centred(), tmp_path, options):
            pytest.fail("the workers were entered")


async def test_demanded_batching_of_which_nothing_is_known_is_refused_with_what_is_missing(tmp_path: Path) -> None:
    options = msgspec.structs.replace(ONE_WORKER, batched=True)
    with nothing_left(), pytest.raises(ModelLoadError, match=r"batched = true demands .* give a sample: "):
        async with running(influences.hidden_every_row(1e7), tmp_path, options):
            pytest.fail("the workers were entered")


async def test_all_workers_know_what_the_first_one_found(tmp_path: Path) -> None:
    options = WorkerOptions(count=2, intra_op_threads=1)
    async with running(influences.one_label(), tmp_path, options) as (workers, listener):
        assert workers.signature.batched
        assert workers.signature.outputs[0].shape == (None,)
        os.kill(workers.statistics().pids[0], signal.SIGKILL)
        await until(lambda: listener.restarts == 1)
        await listener.until_idle(workers, 2)
        x = (np.eye(3, dtype=np.float32),)
        results = await asyncio.gather(*[workers.run([x, x], ["label"]) for _ in range(4)])
        assert {tuple(result.outputs[0].tolist()) for result in results} == {(0, 1, 2, 0, 1, 2)}


async def test_the_sample_beside_a_version_reaches_the_worker(tmp_path: Path) -> None:
    np.savez(tmp_path / "sample.npz", x=np.full((2, 8), [[1], [2e7]], np.float32))
    async with running(influences.hidden_every_row(1e7), tmp_path) as (workers, _):
        assert workers.signature.batched
        assert (workers.findings.evidence, workers.findings.notes) == (Evidence.TRIED, ())


async def test_a_model_that_is_trusted_is_batched_although_it_mixes_rows(tmp_path: Path) -> None:
    options = msgspec.structs.replace(ONE_WORKER, batched="unchecked")
    async with running(models.centred(), tmp_path, options) as (workers, _):
        assert workers.signature.batched
        parts = [(np.full((1, 2), value, np.float32),) for value in (1, 3)]
        assert (await workers.run(parts, ["y"])).outputs[0].tolist() == [[-1, -1], [1, 1]]


def test_the_options_of_a_configuration() -> None:
    config = ModelConfig(
        batching=BatchingConfig(latency_objective_ms=50, max_rows=7, batched="unchecked"),
        workers=WorkersConfig(count=2, device="cuda:1", intra_op_threads=3, run_timeout_s=4, load_timeout_s=5),
    )
    assert worker_options(config) == WorkerOptions(
        count=2,
        device="cuda:1",
        intra_op_threads=3,
        run_timeout_s=4,
        load_timeout_s=5,
        max_rows=7,
        objective_s=0.05,
        batched="unchecked",
    )
    assert worker_options(ModelConfig()) == WorkerOptions()


def test_the_terms_have_what_is_set_and_what_the_machine_gives() -> None:
    terms = plan_terms(WorkerOptions(count=2, device="cuda:1", intra_op_threads=3, max_rows=7, objective_s=0.05))
    assert terms.memory_bytes is not None
    assert terms == PlanTerms(available_cores(), "cuda:1", 2, 3, 7, 0.05, terms.memory_bytes)
