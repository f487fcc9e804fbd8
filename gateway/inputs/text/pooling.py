"""Makes one vector out of the vectors of a text's tokens. Pure numpy, for all texts of one length at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from sluice.inference.types import Array

Pooling: TypeAlias = Callable[[Array], Array]
"""From floats[texts, tokens, dimensions], with at least one token, to float32[texts, dimensions]."""


def mean(vectors: Array) -> Array:
    """The mean over the tokens, summed in float32 at least: float16 is too coarse for the sum of hundreds of tokens."""
    precision = np.promote_types(vectors.dtype, np.float32)
    return _float32(vectors.mean(axis=1, dtype=precision))


def first(vectors: Array) -> Array:
    """The vector of the first token, which is `[CLS]` for models like BERT."""
    return _float32(vectors[:, 0])


def last(vectors: Array) -> Array:
    """The vector of the last token. In a causal model, only this one depends on all others."""
    return _float32(vectors[:, -1])


def largest(vectors: Array) -> Array:
    """The largest value of each dimension."""
    return _float32(vectors.max(axis=1))


POOLINGS: Mapping[str, Pooling] = MappingProxyType({"mean": mean, "cls": first, "last": last, "max": largest})
"""By their names in `model.toml`, without `none`."""


def scaled(vectors: Array) -> Array:
    """float32[n, d] of finite numbers, each row scaled to length 1. A row of zeros stays as it is."""
    # In float32, the sum of squares of large numbers would overflow.
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return _float32(vectors / np.where(lengths == 0, 1, lengths)[:, np.newaxis])


def _float32(vectors: Array) -> Array:
    return vectors.astype(np.float32, copy=False)
