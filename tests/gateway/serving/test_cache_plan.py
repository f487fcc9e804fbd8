from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from sluice.gateway.serving.cache_plan import CachePlan, cache_plan
from sluice.inference.config.model_config import CacheConfig
from sluice.inference.errors import RepositoryError
from sluice.inference.findings import Evidence, Findings
from sluice.inference.types import Datatype, Signature, TensorSpec

BATCHED = Signature(
    (TensorSpec("x", Datatype.FP32, (None,)),), (TensorSpec("y", Datatype.FP32, (None,)),), batched=True
)
ALONE = Signature((TensorSpec("x", Datatype.FP32, (1,)),), (TensorSpec("y", Datatype.FP32, (1,)),), batched=False)


def found(
    signature: Signature = BATCHED,
    because: str = "every operator keeps rows apart",
    evidence: Evidence = Evidence.PROVEN,
    erratic_because: str | None = None,
) -> Any:
    return SimpleNamespace(signature=signature, findings=Findings(evidence, because, erratic_because=erratic_because))


def test_rows_are_kept_where_the_model_keeps_them_apart() -> None:
    assert cache_plan(CacheConfig(), found(), ()) == CachePlan(True, "row", "every operator keeps rows apart")


def test_whole_requests_are_kept_where_rows_depend_on_each_other() -> None:
    plan = cache_plan(CacheConfig(), found(ALONE, "row 0 changes with the rows beside it"), ())
    assert (plan.enabled, plan.scope) == (True, "request")
    assert "row 0 changes" in plan.because


def test_whole_requests_are_kept_where_nobody_knows() -> None:
    plan = cache_plan(CacheConfig(), found(ALONE, "the model refused random rows", Evidence.NONE), ())
    assert (plan.enabled, plan.scope) == (True, "request")
    assert "refused random rows" in plan.because


def test_random_operators_switch_the_cache_off_and_are_named() -> None:
    plan = cache_plan(CacheConfig(), found(), ("Multinomial",))
    assert not plan.enabled
    assert "Multinomial" in plan.because


def test_a_model_that_was_seen_to_vary_is_not_kept() -> None:
    plan = cache_plan(CacheConfig(), found(erratic_because="output 'y' is not the same for the same row twice"), ())
    assert not plan.enabled
    assert "'y'" in plan.because


def test_the_operator_has_the_last_word() -> None:
    assert cache_plan(CacheConfig(enabled=True), found(), ("Multinomial",)).enabled
    assert not cache_plan(CacheConfig(enabled=False), found(), ()).enabled
    assert cache_plan(CacheConfig(scope="request"), found(), ()).scope == "request"
    assert cache_plan(CacheConfig(scope="row"), found(), ()).scope == "row"


def test_that_nobody_compared_the_rows_is_said() -> None:
    plan = cache_plan(CacheConfig(), found(because='batching.batched is "unchecked"', evidence=Evidence.TOLD), ())
    assert plan == CachePlan(True, "row", 'by rows, which nobody compared: batching.batched is "unchecked"')


def test_rows_of_a_model_without_any_cannot_be_kept() -> None:
    with pytest.raises(RepositoryError, match=r'cache.scope = "row": .*no axis.* set it to "request"'):
        cache_plan(CacheConfig(scope="row"), found(ALONE, "no axis for rows"), ())
