"""One operator of a graph, as the rules see it: its attributes, and what is known of its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from sluice.inference.backends.onnx.proof.facts import Dependence, Fact
from sluice.inference.backends.onnx.proof.sizes import Size, Symbols
from sluice.inference.backends.onnx.proof.structure_pb2 import Attribute


class Mixes(Exception):
    """The operator lets rows change one another. The message says how, after the operator's name."""


class Unclear(Exception):
    """What the operator does to the rows cannot be told. The message says why, after the operator's name."""


class Operation:
    """An operator with its attributes and inputs.

    `inputs` has a fact for each input, and `None` for one that is left out; `opset` is the version of the operator's
    set; `outputs` counts those that have a name.
    """

    def __init__(
        self,
        name: str,
        opset: int,
        attributes: Mapping[str, Attribute],
        inputs: Sequence[Fact | None],
        outputs: int,
        symbols: Symbols,
    ) -> None:
        self.name = name
        self.opset = opset
        self.inputs = tuple(inputs)
        self.outputs = outputs
        self.symbols = symbols
        self.attributes = attributes

    def input(self, place: int) -> Fact | None:
        """What is known of an input; `None` where it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def needed(self, place: int) -> Fact:
        """Likewise. Raises `Unclear` where it is left out."""
        fact = self.input(place)
        if fact is None:
            raise Unclear(f"has no input {place}")
        return fact

    def shaped(self, place: int) -> tuple[Fact, tuple[Size, ...]]:
        """An input whose shape is known. Raises `Unclear`."""
        fact = self.needed(place)
        if fact.shape is None:
            raise Unclear(f"has an input {place} of unknown rank")
        return fact, fact.shape

    def same_for_all(self, place: int, what: str) -> Fact | None:
        """An input that may be left out and must not depend on rows. Raises `Mixes`."""
        fact = self.input(place)
        if fact is not None and fact.kind is not Dependence.CONSTANT:
            raise Mixes(f"takes {what} from the rows, which then hold for all of them")
        return fact

    def has(self, name: str) -> bool:
        """Whether an attribute is set."""
        return name in self.attributes

    def integer(self, name: str, default: int = 0) -> int:
        """An attribute."""
        found = self.attribute(name)
        return default if found is None else found.i

    def flag(self, name: str, *, default: bool = False) -> bool:
        """An attribute that is 0 or 1."""
        return bool(self.integer(name, int(default)))

    def check_flags(self) -> None:
        """Raises `Unclear` for a flag that is neither 0 nor 1: the engine takes it for either, or for nothing to do."""
        for name in FLAGS.intersection(self.attributes):
            if self.integer(name) not in (0, 1):
                raise Unclear(f"has {self.integer(name)} for {name}, which is 0 or 1")

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An attribute; `None` where it is not set."""
        found = self.attribute(name)
        return None if found is None else tuple(found.ints)

    def reals(self, name: str) -> tuple[float, ...] | None:
        """An attribute; `None` where it is not set."""
        found = self.attribute(name)
        return None if found is None else tuple(found.floats)

    def text(self, name: str, default: str = "") -> str:
        """An attribute."""
        found = self.attribute(name)
        return default if found is None else found.s.decode(errors="replace")

    def texts(self, name: str) -> tuple[bytes, ...] | None:
        """An attribute; `None` where it is not set."""
        found = self.attribute(name)
        return None if found is None else tuple(found.strings)

    def attribute(self, name: str) -> Attribute | None:
        """An attribute of any kind. Raises `Unclear` where it was too large to be read."""
        found = self.attributes.get(name)
        if found is not None and found.cut:
            raise Unclear(f"has an attribute {name!r} that is too large to be read")
        return found

    def is_cut(self, name: str) -> bool:
        """Whether an attribute is set, and was too large to be read."""
        return name in self.attributes and self.attributes[name].cut


Function: TypeAlias = Callable[[Operation], Sequence[Fact]]


class Rule(msgspec.Struct, frozen=True):
    """What an operator does. `follow` gives a fact for each output, and may raise `Mixes` and `Unclear`.

    It is not asked where an input is MIXED or UNKNOWN. Where it is not `of_counts`, COUNT makes all outputs MIXED;
    where it is not `of_marks`, so do ROWS that may not be read as they are (`Fact.plain`).
    """

    follow: Function
    of_counts: bool = False
    of_marks: bool = False


Rules: TypeAlias = Mapping[str, Rule]


def names(text: str) -> tuple[str, ...]:
    """The words of a text: a list of operators, in as few lines as it fits."""
    return tuple(text.split())


FLAGS = frozenset(
    names(
        "align_corners allowzero antialias ceil_mode center_point_box channels_last count_include_pad exclude_outside "
        "exclusive inverse is_causal is_packed_batching is_test keepdims largest layout linear_before_reset "
        "noop_with_empty_axes onesided reverse saturate select_last_index sorted spatial training_mode transA transB "
        "transBatchA transBatchB unidirectional upper zeros"
    )
)
"""Attributes that are 0 or 1."""


def axis_of(axis: int, rank: int) -> int:
    """An axis counted from the front. Raises `Unclear` for one that is not there."""
    counted = axis + rank if axis < 0 else axis
    if not 0 <= counted < rank:
        raise Unclear(f"names the axis {axis} of {rank}")
    return counted


def like(fact: Fact, shape: Sequence[Size], axis: int) -> Fact:
    """Other elements, whose rows, if their source has any, lie along `axis` in the same layout.

    Raises `Mixes` where another axis would change with the number of rows, and where the source may not be read as it
    is: who may read it, hands it over without its mark.
    """
    if not fact.plain:
        raise Mixes("reads what the batch decides")
    from_rows = fact.kind is Dependence.ROWS
    if any([size.counts_rows and not (from_rows and place == axis) for place, size in enumerate(shape)]):
        raise Mixes("gives a size for each row to what has no rows, or to another axis than theirs")
    return msgspec.structs.replace(fact, shape=tuple(shape), axis=axis if from_rows else 0, content=None, mark=None)
