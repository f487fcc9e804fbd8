"""What rooms report arrives in a scrape, under bounded labels."""

from __future__ import annotations

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics

from sluice.batching.policy import Reason
from sluice.batching.report import BatchOutcome, BatchReport
from sluice.gateway.telemetry.labels import CallOutcome
from sluice.gateway.telemetry.metrics import Metrics
from sluice.gateway.telemetry.model_metrics import ModelGauges, ModelMetrics
from sluice.inference.types import Timings
from tests.gateway.telemetry.scrape import scrape

LABELS = 'model="m",version="3"'


class Scraped:
    """The metrics of one version, and what a scrape shows of them."""

    def __init__(self) -> None:
        self._metrics = Metrics("0")
        self.of_model: ModelMetrics = self._metrics.of_model("m", 3)

    def shows(self, series: str) -> bool:
        return series in scrape(self._metrics)[0].decode().splitlines()

    def mentions(self, text: str) -> bool:
        lines = scrape(self._metrics)[0].decode().splitlines()
        return any(text in line for line in lines if not line.startswith("#"))


def report(run_s: float = 0.02, predicted_s: float = 0.0, outcome: BatchOutcome = BatchOutcome.ANSWERED) -> BatchReport:
    return BatchReport(
        rows=4,
        jobs=2,
        reason=Reason.FULL,
        outcome=outcome,
        queue_s=0.1,
        compute_s=0.01,
        wall_s=0.03,
        run_s=run_s,
        predicted_s=predicted_s,
    )


def gauges(objective_s: float | None = None) -> ModelGauges:
    return ModelGauges(lambda: 1.0, lambda: 2.0, lambda: 3.0, lambda: 4.0, lambda: 5.0, objective_s)


def test_a_batch_is_counted_with_its_reason_and_its_times() -> None:
    scraped = Scraped()
    scraped.of_model.batch_ended(report())
    assert scraped.shows('sluice_batches_total{model="m",outcome="answered",reason="full",version="3"} 1.0')
    assert scraped.shows(f"sluice_batch_rows_sum{{{LABELS}}} 4.0")
    assert scraped.shows(f"sluice_batch_compute_seconds_sum{{{LABELS}}} 0.01")
    assert scraped.shows(f"sluice_batch_run_seconds_sum{{{LABELS}}} 0.02")


def test_predictions_are_held_against_what_came() -> None:
    scraped = Scraped()
    for run_s in (0.01, 0.02, 0.0200001):
        scraped.of_model.batch_ended(report(run_s, predicted_s=0.02))
    assert scraped.shows('sluice_batch_predictions_total{model="m",run="within",version="3"} 2.0')
    assert scraped.shows('sluice_batch_predictions_total{model="m",run="beyond",version="3"} 1.0')


def test_a_batch_without_a_prediction_says_nothing_about_predictions() -> None:
    scraped = Scraped()
    scraped.of_model.batch_ended(report(predicted_s=0.0))
    assert not scraped.mentions("sluice_batch_predictions_total")


@pytest.mark.parametrize("outcome", [BatchOutcome.FAILED, BatchOutcome.DIED, BatchOutcome.ERROR])
def test_a_batch_without_an_answer_has_no_run_time(outcome: BatchOutcome) -> None:
    scraped = Scraped()
    scraped.of_model.batch_ended(report(0.0, predicted_s=0.02, outcome=outcome))
    assert scraped.shows(f"sluice_batch_run_seconds_count{{{LABELS}}} 0.0")
    assert not scraped.mentions("sluice_batch_predictions_total")


def test_padding_is_measured_in_elements() -> None:
    scraped = Scraped()
    scraped.of_model.padded(own=100, added=28)
    scraped.of_model.padded(own=64, added=0)
    assert scraped.shows('sluice_padding_elements_total{kind="own",model="m",version="3"} 164.0')
    assert scraped.shows('sluice_padding_elements_total{kind="added",model="m",version="3"} 28.0')


def test_an_objective_is_shown_while_its_version_is_served() -> None:
    scraped = Scraped()
    scraped.of_model.watch(gauges(objective_s=0.05))
    assert scraped.shows(f"sluice_latency_objective_seconds{{{LABELS}}} 0.05")
    scraped.of_model.forget()
    assert not scraped.mentions("sluice_latency_objective_seconds")


def test_without_an_objective_there_is_none_in_a_scrape() -> None:
    scraped = Scraped()
    scraped.of_model.watch(gauges())
    assert scraped.shows(f"sluice_queue_rows{{{LABELS}}} 1.0")
    assert not scraped.mentions("sluice_latency_objective_seconds")
    scraped.of_model.forget()
    assert not scraped.mentions("sluice_queue_rows")


def test_an_answer_is_counted_phase_by_phase() -> None:
    scraped = Scraped()
    scraped.of_model.answered(Timings(0.01, 0.025, 0.02, 0.001, 4), 0.003, 0.004, cached=True)
    scraped.of_model.answered(Timings(0.01, 0.025, 0.02, 0.0, 4), 0.003, 0.004, cached=False)
    scraped.of_model.repeated(0.005)
    expected = {"decode": (2, 0.006), "cache": (2, 0.006), "queue": (2, 0.02), "compute": (2, 0.04)}
    for phase, (count, total_s) in expected.items():
        labels = f'model="m",phase="{phase}",version="3"'
        assert scraped.shows(f"sluice_phase_seconds_count{{{labels}}} {count}.0")
        assert scraped.shows(f"sluice_phase_seconds_sum{{{labels}}} {total_s}")


def test_failures_that_did_not_happen_are_counted_as_none() -> None:
    metrics = Metrics("0", dialects=["v2"])
    metrics.of_model("m", 3)
    text = scrape(metrics)[0].decode()
    assert 'sluice_requests_total{dialect="v2",model="m",outcome="failed",version="3"} 0.0' in text
    assert 'sluice_refusals_total{model="m",reason="queue_full",version="3"} 0.0' in text


def test_late_answers_have_no_slack() -> None:
    scraped = Scraped()
    for slack_s in (-0.5, 0.0004, 0.2):
        scraped.of_model.promise_ended(slack_s)
    assert scraped.shows('sluice_deadline_slack_seconds_bucket{le="0.0",model="m",version="3"} 1.0')
    assert scraped.shows('sluice_deadline_slack_seconds_bucket{le="0.25",model="m",version="3"} 3.0')


def test_a_trace_is_an_exemplar_in_openmetrics_alone() -> None:
    metrics = Metrics("0", {"onnxruntime": "1.2"})
    metrics.of_model("m", 3).request_ended("v2", CallOutcome.SUCCESS, 0.003, "ab" * 16)
    metrics.of_model("m", 3).request_ended("v2", CallOutcome.SUCCESS, 0.3)
    text, kind = scrape(metrics, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert kind.startswith("application/openmetrics-text")
    families = {family.name: family for family in openmetrics(text.decode())}  # type: ignore[no-untyped-call]
    exemplars = [each.exemplar for each in families["sluice_request_duration_seconds"].samples if each.exemplar]
    assert [(each.labels, each.value) for each in exemplars] == [({"trace_id": "ab" * 16}, 0.003)]
    text, kind = scrape(metrics, "text/plain")
    assert kind.startswith("text/plain")
    assert b"trace_id" not in text
    assert b'sluice_build_info{onnxruntime="1.2"' in text
