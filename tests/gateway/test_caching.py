from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.caching import CachePlan, cache_plan
from inference.config import CacheConfig
from inference.errors import RepositoryError
from inference.types import Datatype, Signature, TensorSpec

BATCHED = Signature(
    (TensorSpec("x", Datatype.FP32, (None,)),), (TensorSpec("y", Datatype.FP32, (None,)),), batched=True
)
ALONE = Signature((TensorSpec("x", Datatype.FP32, (1,)),), (TensorSpec("y", Datatype.FP32, (1,)),), batched=False)


def found(signature: Signature = BATCHED, **words: str) -> Any:
    reasons = {"unbatched_because": None, "unproven_because": None, "erratic_because": None}
    return SimpleNamespace(signature=signature, **(reasons | words))


def test_rows_are_kept_where_the_model_keeps_them_apart() -> None:
    assert cache_plan(CacheConfig(), found(), ()) == CachePlan(True, "row", "the model keeps rows apart")


def test_whole_requests_are_kept_where_rows_depend_on_each_other() -> None:
    plan = cache_plan(CacheConfig(), found(ALONE, unbatched_because="row 0 changes with the rows beside it"), ())
    assert (plan.enabled, plan.scope) == (True, "request")
    assert "row 0 changes" in plan.because


def test_whole_requests_are_kept_where_nobody_knows() -> None:
    plan = cache_plan(CacheConfig(), found(unproven_because="the model refused random rows"), ())
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
    assert cache_plan(CacheConfig(scope="row"), found(unproven_because="unknown"), ()).scope == "row"


def test_rows_of_a_model_without_any_cannot_be_kept() -> None:
    with pytest.raises(RepositoryError, match=r'cache.scope = "row": .*no axis.* set it to "request"'):
        cache_plan(CacheConfig(scope="row"), found(ALONE, unbatched_because="no axis for rows"), ())
