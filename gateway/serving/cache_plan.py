"""Decides at load whether a model's answers are cached, and whether by rows or by whole requests. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec

from sluice.inference.config.model_config import CacheConfig
from sluice.inference.errors import RepositoryError
from sluice.inference.findings import Evidence, Findings
from sluice.inference.types import Signature


class CacheGrounds(Protocol):
    """What was found out about a model when it was loaded. `inference.workers.pool.Workers` implements it."""

    signature: Signature
    findings: Findings


class CachePlan(msgspec.Struct, frozen=True):
    """Whether and how the answers of one version are cached. `because` says in plain words why."""

    enabled: bool
    scope: Literal["row", "request"]
    because: str


def cache_plan(config: CacheConfig, found: CacheGrounds, random_operators: Sequence[str]) -> CachePlan:
    """The plan for a model. `random_operators` names the operators of its graph that draw random numbers.

    Raises `RepositoryError` if `cache.scope` is "row" for a model that is served without batching.
    """
    scope, scope_because = _scope(config, found)
    if config.enabled is not None:
        because = f"cache.enabled is {str(config.enabled).lower()}"
        return CachePlan(config.enabled, scope, f"{because}; {scope_because}" if config.enabled else because)
    if random_operators:
        return CachePlan(False, scope, f"the model draws random numbers: {', '.join(random_operators)}")
    if found.findings.erratic_because is not None:
        return CachePlan(False, scope, found.findings.erratic_because)
    return CachePlan(True, scope, scope_because)


def _scope(config: CacheConfig, found: CacheGrounds) -> tuple[Literal["row", "request"], str]:
    because = found.findings.because
    if config.scope == "row":
        if not found.signature.batched:
            raise RepositoryError(
                'cache.scope = "row": the model is served without batching, so its answers do not come by rows '
                f'({because}); remove the key, or set it to "request"'
            )
        return "row", 'cache.scope is "row"'
    if config.scope == "request":
        return "request", 'cache.scope is "request"'
    if not found.signature.batched:
        return "request", f"by whole requests: {because}"
    if found.findings.evidence is Evidence.TOLD:
        return "row", f"by rows, which nobody compared: {because}"
    return "row", because
