"""Small tensors whose elements are followed one by one, such as shapes, axes and paddings that the graph computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sluice.inference.backends.onnx.proof.facts import MOST_CONTENT, Fact, count
from sluice.inference.backends.onnx.proof.sizes import Size

Elements: TypeAlias = npt.NDArray[np.object_]
"""An array of `facts.Element`."""


def elements_of(fact: Fact) -> Elements | None:
    """The elements in their shape; `None` if not all are known."""
    if fact.content is None or fact.shape is None:
        return None
    sizes = [size.known for size in fact.shape]
    known = [size for size in sizes if size is not None]
    if len(known) < len(sizes) or math.prod(known) != len(fact.content):
        return None
    elements = np.empty(len(fact.content), np.object_)
    elements[:] = fact.content
    return elements.reshape(known)


def of_elements(elements: Elements) -> Fact:
    """The fact of a tensor with these elements, which may depend on the number of rows, but not on the rows."""
    return count([Size(size) for size in elements.shape], elements.ravel().tolist())


def moved(facts: Sequence[Fact], move: Callable[[Sequence[Elements]], Elements]) -> Fact | None:
    """The fact of elements that `move` has rearranged; `None` if not all are known, or they are too many."""
    known = [elements_of(fact) for fact in facts]
    found = [each for each in known if each is not None]
    if len(found) < len(known):
        return None
    try:
        put = np.asarray(move(found), np.object_)  # a single element becomes an array
    except (IndexError, ValueError):
        return None  # the engine will refuse it, too
    return of_elements(put) if put.size <= MOST_CONTENT else None
