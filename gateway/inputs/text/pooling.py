"""How the vectors of a text's tokens become one. Pure numpy, over all texts of one length at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from sluice.inference.types import Array

Pooling: TypeAlias = Callable[[Array], Array]
"""From floats[texts, tokens, dimensions], with at least one token, to float32[texts, dimensions]."""


def mean(vectors: Array) -> Array:
    """The mean over the tokens, summed up in float32 at least: a half has too few bits for hundreds of tokens."""
    precision = np.promote_types(vectors.dtype, np.float32)
    return _float32(vectors.mean(axis=1, dtype=precision))


def first(vectors: Array) -> Array:
    """The vector of the first token, which is `[CLS]` for models in the manner of BERT."""
    return _float32(vectors[:, 0])


def last(vectors: Array) -> Array:
    """The vector of the last token, which alone has seen all others in a causal model."""
    return _float32(vectors[:, -1])


def largest(vectors: Array) -> Array:
    """The largest value of each dimension."""
    return _float32(vectors.max(axis=1))


POOLINGS: Mapping[str, Pooling] = MappingProxyType({"mean": mean, "cls": first, "last": last, "max": largest})
"""By their names in `model.toml`; `none` is not among them."""


def scaled(vectors: Array) -> Array:
    """float32[n, d] of finite numbers, each row scaled to length 1; a row of zeros stays one."""
    # The sum of squares of large numbers is beyond float32.
    lengths = np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64))
    return _float32(vectors / np.where(lengths == 0, 1, lengths)[:, np.newaxis])


def _float32(vectors: Array) -> Array:
    return vectors.astype(np.float32, copy=False)
