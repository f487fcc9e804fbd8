"""One operator of a graph, as the rules see it: its attributes, and what is known about its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import msgspec

from sluice.inference.backends.onnx.proof.facts import Dependence, Fact
from sluice.inference.backends.onnx.proof.sizes import Size, Symbols
from sluice.inference.backends.onnx.proof.structure_pb2 import Attribute


class Mixes(Exception):
    """The operator lets rows change one another. The message says how; it continues after the operator's name."""


class Unclear(Exception):
    """It is not known what the operator does to rows. The message says why; it continues after the operator's name."""


class Operation:
    """An operator with its attributes and inputs.

    `inputs` has a fact for each input, and `None` for one that is left out. `opset` is the version of the operator set.
    `outputs` is the number of outputs.
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
        """The fact of an input; `None` if it is left out."""
        return self.inputs[place] if place < len(self.inputs) else None

    def needed(self, place: int) -> Fact:
        """The fact of an input. Raises `Unclear` if it is left out."""
        fact = self.input(place)
        if fact is None:
            raise Unclear(f"has no input {place}")
        return fact

    def shaped(self, place: int) -> tuple[Fact, tuple[Size, ...]]:
        """The fact and the shape of an input. Raises `Unclear` if the shape is not known."""
        fact = self.needed(place)
        if fact.shape is None:
            raise Unclear(f"has an input {place} of unknown rank")
        return fact, fact.shape

    def same_for_all(self, place: int, what: str) -> Fact | None:
        """The fact of an input that may be left out. Raises `Mixes` if it depends on rows."""
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
        """An attribute that is 0 or 1, as a truth value."""
        return bool(self.integer(name, int(default)))

    def check_flags(self) -> None:
        """Raises `Unclear` for a flag that is neither 0 nor 1: the engine may take it for either, or ignore it."""
        for name in FLAGS.intersection(self.attributes):
            if self.integer(name) not in (0, 1):
                raise Unclear(f"has {self.integer(name)} for {name}, which is 0 or 1")

    def integers(self, name: str) -> tuple[int, ...] | None:
        """An attribute; `None` if it is not set."""
        found = self.attribute(name)
        return None if found is None else tuple(found.ints)

    def reals(self, name: str) -> tuple[float, ...] | None:
        """An attribute; `None` if it is not set."""
        found = self.attribute(name)
        return None if found is None else tuple(found.floats)

    def text(self, name: str, default: str = "") -> str:
        """An attribute."""
        found = self.attribute(name)
        return default if found is None else found.s.decode(errors="replace")

    def texts(self, name: str) -> tuple[bytes, ...] | None:
        """An attribute; `None` if it is not set."""
        found = self.attribute(name)
        return None if found is None else tuple(found.strings)

    def attribute(self, name: str) -> Attribute | None:
        """An attribute of any kind. Raises `Unclear` if it was too large to be read."""
        found = self.attributes.get(name)
        if found is not None and found.cut:
            raise Unclear(f"has an attribute {name!r} that is too large to be read")
        return found

    def is_cut(self, name: str) -> bool:
        """Whether an attribute is set but was too large to be read."""
        return name in self.attributes and self.attributes[name].cut


Function: TypeAlias = Callable[[Operation], Sequence[Fact]]


class Rule(msgspec.Struct, frozen=True):
    """What an operator does. `follow` gives a fact for each output, and may raise `Mixes` and `Unclear`.

    It is not called if an input is MIXED or UNKNOWN. Without `of_counts`, an input of the kind COUNT makes all outputs
    MIXED; without `of_marks`, ROWS with a mark do so, too (see `Fact.plain`).
    """

    follow: Function
    of_counts: bool = False
    of_marks: bool = False


OperatorRules: TypeAlias = Mapping[str, Rule]


def names(text: str) -> tuple[str, ...]:
    """The words of a text, such as a list of operators."""
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
    """An axis, counted from the front. Raises `Unclear` if there is no such axis."""
    counted = axis + rank if axis < 0 else axis
    if not 0 <= counted < rank:
        raise Unclear(f"names the axis {axis} of {rank}")
    return counted


def like(fact: Fact, shape: Sequence[Size], axis: int) -> Fact:
    """The fact of other elements, whose rows, if `fact` has any, are along `axis` in the same layout.

    Raises `Mixes` if another axis would change with the number of rows, and if `fact` has a mark: a rule that may read
    it must remove the mark first.
    """
    if not fact.plain:
        raise Mixes("reads what the batch decides")
    from_rows = fact.kind is Dependence.ROWS
    if any([size.counts_rows and not (from_rows and place == axis) for place, size in enumerate(shape)]):
        raise Mixes("gives a size for each row to what has no rows, or to another axis than theirs")
    return msgspec.structs.replace(fact, shape=tuple(shape), axis=axis if from_rows else 0, content=None, mark=None)
