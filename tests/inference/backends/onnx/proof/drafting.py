"""Graphs that grow operator by operator, with the values of their tensors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.random import Generator
from onnx import NodeProto, helper

from sluice.inference.types import Array


@dataclass(frozen=True)
class Known:
    """A tensor of the graph so far, with its values for either number of rows."""

    name: str
    values: tuple[Array, ...]

    @property
    def rank(self) -> int:
        return int(self.values[0].ndim)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.values[0].shape)

    @property
    def is_float(self) -> bool:
        return bool(self.values[0].dtype == np.float32)


@dataclass
class Draft:
    """A graph that grows."""

    rng: Generator
    inputs: dict[str, tuple[int, ...]]
    known: list[Known] = field(default_factory=list)
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, Array] = field(default_factory=dict)
    names: int = 0

    def name(self) -> str:
        self.names += 1
        return f"t{self.names}"

    def constant(self, array: Any, dtype: Any = None) -> str:
        name = f"c{len(self.constants)}"
        self.constants[name] = np.asarray(array, dtype)
        return name

    def pick(self, rank: int | None = None, least: int = 0) -> Known | None:
        """Some float tensor, the last ones rather than the first."""
        fitting = [k for k in self.known if k.is_float and k.rank >= least and rank in (None, k.rank)]
        if not fitting:
            return None
        if self.rng.random() < 0.7:
            fitting = fitting[-2:]
        return fitting[int(self.rng.integers(len(fitting)))]


Proposal = tuple[list[NodeProto], list[str]]
"""Nodes, and those of their outputs that later nodes may use."""

Maker = Callable[[Draft, Generator], Proposal | None]


def make_node(operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Any) -> NodeProto:
    made: NodeProto = helper.make_node(operator, inputs, outputs, **attributes)
    return made
