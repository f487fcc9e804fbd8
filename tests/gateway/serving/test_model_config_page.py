"""The configuration page shows what is in force, under the protocol's names where it has them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from sluice.cache.cache import Cache, CacheOptions
from sluice.gateway.pages.dependencies import catalogue
from sluice.gateway.pages.v2_models import router
from sluice.gateway.serving.cache_plan import CachePlan
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.model import ModelDescription
from sluice.gateway.serving.model_config_page import model_config_page
from sluice.gateway.serving.served_version import in_force
from sluice.gateway.settings.load import Settings
from sluice.gateway.telemetry.metrics import Metrics
from sluice.inference.backends.registry import ENGINES
from sluice.inference.config.model_config import BatchingConfig, ModelConfig, PaddedInput, PaddingConfig, WorkersConfig
from sluice.inference.findings import WAYS, Evidence, Findings
from sluice.inference.serving_plan import ServingPlan
from sluice.inference.types import Datatype, Knot, Signature, TensorSpec

PLAN = ServingPlan(2, 3, 32, (Knot(1, 0.001), Knot(32, 0.0123)), ("32 rows: more no longer pay",))
BATCHED = Signature(
    (TensorSpec("x", Datatype.FP32, (None, 4)), TensorSpec("text", Datatype.BYTES, (None, None))),
    (TensorSpec("y", Datatype.INT64, (None,)),),
    batched=True,
)
PROVEN = Findings(Evidence.PROVEN, "every operator keeps rows apart")
ALONE = Signature((TensorSpec("x", Datatype.BF16, (1, 4)),), (TensorSpec("y", Datatype.BOOL, ()),), batched=False)


def page(
    config: ModelConfig | None = None,
    signature: Signature = BATCHED,
    findings: Findings = PROVEN,
    curves: dict[str, Sequence[Knot]] | None = None,
    layouts: dict[str, str] | None = None,
) -> dict[str, Any]:
    """What a caller reads."""
    shown = model_config_page(served(config, signature, findings, curves, layouts))
    text: dict[str, Any] = json.loads(shown.model_dump_json())
    return text


def served(
    config: ModelConfig | None = None,
    signature: Signature = BATCHED,
    findings: Findings = PROVEN,
    curves: dict[str, Sequence[Knot]] | None = None,
    layouts: dict[str, str] | None = None,
) -> Any:
    """What the page reads of a `ServedModel`."""
    description = ModelDescription(
        name="m",
        version=1,
        engine=ENGINES[0],
        digest="d" * 64,
        signature=signature,
        unbatched_because=None if signature.batched else findings.because,
        config=in_force(config or ModelConfig(), PLAN, signature),
        plan=PLAN,
        curves=curves or {},
        cache_plan=CachePlan(True, "row", "the model keeps rows apart"),
        findings=findings,
        notes=(),
        image_layouts=layouts or {},
    )
    return SimpleNamespace(description=lambda: description)


def test_the_protocols_names_are_at_the_top() -> None:
    shown = page()
    assert set(shown) == {
        *("name", "platform", "backend", "max_batch_size", "input", "output"),
        *("instance_group", "dynamic_batching", "sluice"),
    }
    assert (shown["name"], shown["platform"], shown["max_batch_size"]) == ("m", "onnx_onnxv1", 32)
    assert shown["input"] == [
        {"name": "x", "data_type": "TYPE_FP32", "dims": [4], "format": "FORMAT_NONE"},
        {"name": "text", "data_type": "TYPE_STRING", "dims": [-1], "format": "FORMAT_NONE"},
    ]
    assert shown["output"] == [{"name": "y", "data_type": "TYPE_INT64", "dims": []}]
    assert shown["instance_group"] == [{"name": "m_0", "kind": "KIND_CPU", "count": 2, "gpus": []}]
    assert shown["dynamic_batching"] == {"priority_levels": 9, "default_priority_level": 5}


def test_a_model_that_is_not_batched_has_batches_of_zero_and_says_why() -> None:
    shown = page(signature=ALONE, findings=Findings(Evidence.TRIED, "its rows influence each other"))
    assert shown["max_batch_size"] == 0
    assert "dynamic_batching" not in shown
    assert shown["input"] == [{"name": "x", "data_type": "TYPE_BF16", "dims": [1, 4], "format": "FORMAT_NONE"}]
    ours = shown["sluice"]
    assert ours["batched"] is False
    assert ours["rows"] == {
        "evidence": "tried",
        "because": "its rows influence each other",
        "missing": None,
        "ways": [],
        "erratic_because": None,
        "alarm": None,
        "notes": [],
    }
    assert (ours["config"]["batching"]["batched"], ours["config"]["batching"]["max_rows"]) == (False, 1)


def test_what_is_missing_is_shown_with_the_ways_to_give_it() -> None:
    rows = page(
        signature=ALONE, findings=Findings(Evidence.NONE, "nobody knows", missing="rows that differ", ways=WAYS)
    )["sluice"]["rows"]
    assert (rows["evidence"], rows["missing"]) == ("none", "rows that differ")
    assert [way.split()[1] for way in rows["ways"]] == ["sample:", "=", "export,"]


@pytest.mark.parametrize(
    ("layout", "format_"),
    [
        ("NCHW", "FORMAT_NCHW"),
        ("NHWC", "FORMAT_NHWC"),
        ("CHW", "FORMAT_NCHW"),
        ("HWC", "FORMAT_NHWC"),
        ("NHW", "FORMAT_NONE"),
        ("HW", "FORMAT_NONE"),
    ],
)
def test_how_a_picture_lies_in_its_input(layout: str, format_: str) -> None:
    shown = page(layouts={"x": layout})
    assert [each["format"] for each in shown["input"]] == [format_, "FORMAT_NONE"]
    assert "format" not in shown["output"][0]


def test_what_was_planned_stands_where_nothing_was_set() -> None:
    ours = page()["sluice"]
    assert ours["digest"] == "d" * 64
    assert ours["config"]["batching"] == {
        "latency_objective_ms": None,
        "max_rows": 32,
        "max_queue_rows": 4096,
        "max_queue_bytes": 256 * 1024 * 1024,
        "batched": True,
        "audit_share": 0.01,
    }
    assert (ours["config"]["workers"]["count"], ours["config"]["workers"]["intra_op_threads"]) == (2, 3)
    assert ours["plan"] == {
        "workers": 2,
        "intra_op_threads": 3,
        "max_rows": 32,
        "knots": [{"rows": 1, "run_ms": 1.0}, {"rows": 32, "run_ms": 12.3}],
        "reasons": ["32 rows: more no longer pay"],
    }


def test_whether_answers_are_kept_and_why() -> None:
    assert page()["sluice"]["cache"] == {"enabled": True, "scope": "row", "because": "the model keeps rows apart"}


def test_what_was_set_is_shown_as_it_was_set() -> None:
    config = ModelConfig(
        batching=BatchingConfig(latency_objective_ms=50, batched="unchecked"),
        workers=WorkersConfig(device="cuda:1", run_timeout_s=5),
        padding=PaddingConfig(inputs={"text": PaddedInput(buckets=(16, 64))}),
    )
    shown = page(config)
    ours = shown["sluice"]
    assert ours["latency_objective_ms"] == 50
    assert ours["config"]["batching"]["batched"] == "unchecked"
    assert ours["config"]["workers"]["run_timeout_s"] == 5
    assert ours["config"]["padding"]["inputs"]["text"]["buckets"] == [16, 64]
    assert shown["instance_group"] == [{"name": "m_0", "kind": "KIND_GPU", "count": 2, "gpus": [1]}]


def test_the_live_curves_are_shown_in_milliseconds() -> None:
    curves: dict[str, Sequence[Knot]] = {"x[4]": (Knot(1, 0.0005), Knot(2, 0.00075))}
    assert page(curves=curves)["sluice"]["curves"] == [
        {"key": "x[4]", "knots": [{"rows": 1, "p95_ms": 0.5}, {"rows": 2, "p95_ms": 0.75}]}
    ]


class OneVersion(Catalogue):
    """Has version 1 of the model `m`."""

    def __init__(self) -> None:
        super().__init__((), Settings(), Metrics("0"), Cache(CacheOptions(0)))

    def resolve(self, model: str, version: int | None, label: str | None = None) -> Any:
        return served() if model == "m" and version in (None, 1) else super().resolve(model, version)


def pages() -> FastAPI:
    app = FastAPI()
    app.include_router(router)
    app.dependency_overrides[catalogue] = OneVersion
    return app


@pytest.mark.parametrize("path", ["/v2/models/m/config", "/v2/models/m/versions/1/config"])
async def test_both_routes_show_the_page(path: str) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(pages()), base_url="http://sluice") as client:
        answer = await client.get(path)
    assert answer.status_code == 200
    assert answer.json() == page()


def test_the_page_is_described() -> None:
    operation = pages().openapi()["paths"]["/v2/models/{model}/config"]["get"]
    schema = operation["responses"]["200"]["content"]["application/json"]["schema"]
    assert schema == {"$ref": "#/components/schemas/ModelConfigPage"}
    assert "404" in operation["responses"]
