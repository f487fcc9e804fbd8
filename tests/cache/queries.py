"""Queries as the corridor makes them."""

from __future__ import annotations

import math

from sluice.inference.types import DEFAULT_PRIORITY, NO_PARAMETERS, Array, Caching, Parameters, Query


def query_of(
    *inputs: Array,
    outputs: tuple[str, ...] = ("y",),
    deadline_s: float = math.inf,
    parameters: Parameters = NO_PARAMETERS,
    priority: int = DEFAULT_PRIORITY,
    client: str = "",
    caching: Caching = Caching.USE,
) -> Query:
    """A query of a batched model, with as many rows as its first input has."""
    shape_key = tuple([array.shape[1:] for array in inputs])
    rows = inputs[0].shape[0]
    return Query(inputs, rows, shape_key, outputs, deadline_s, parameters, priority, client, caching)
