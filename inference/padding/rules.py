"""What the table `[padding]` means for one model: checks its names, axes and values against the signature."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from sluice.inference.config.faults import Fault, dotted, nearest, shown
from sluice.inference.config.model_config import CutOutput, PaddedInput, PaddingConfig
from sluice.inference.errors import RepositoryError
from sluice.inference.types import STORAGE, Datatype, Signature, TensorSpec

NOT_BATCHED = (
    "the model is not batched: each request runs alone, so equal lengths would bring nothing; remove [padding], or "
    "serve a model whose rows can be stacked"
)


MOST_NAMES = 10
"""The most inputs or outputs that a fault lists; some models have hundreds."""


class PadRule(msgspec.Struct, frozen=True):
    """How the input at `place` in the signature is padded.

    Inputs of one `group` have equal lengths and are padded alike. The one that `leads` the group has the buckets.
    """

    name: str
    place: int
    axis: int
    fill: Any
    group: int
    leads: bool
    buckets: tuple[int, ...]


class CutRule(msgspec.Struct, frozen=True):
    """How an output is cut: along `axis`, to the length of the inputs in `group`. `like` names one of them."""

    name: str
    axis: int
    group: int
    like: str


class Rules(msgspec.Struct, frozen=True):
    """All rules of a model. In `pads`, the leaders of groups come first, in the order of their groups."""

    pads: tuple[PadRule, ...]
    cuts: tuple[CutRule, ...]


def resolve(signature: Signature, config: PaddingConfig) -> Rules:
    """The rules for a model. Raises `RepositoryError` with every fault and its key in model.toml."""
    faults = _faults(signature, config)
    if faults:
        raise RepositoryError("\n".join(f"model.toml: {fault}" for fault in faults))
    places = {spec.name: place for place, spec in enumerate(signature.inputs)}
    leaders = _leaders(signature, config)
    pads = [
        PadRule(
            name=name,
            place=place,
            axis=config.inputs[name].axis,
            fill=fill_value(signature.inputs[place].datatype, config.inputs[name].value),
            group=leaders.index(config.inputs[name].like or name),
            leads=name in leaders,
            buckets=config.inputs[name].buckets or (),
        )
        for name, place in places.items()
        if name in config.inputs
    ]
    cuts = []
    for name, output in config.outputs.items():
        like = output.like or leaders[0]
        cuts.append(CutRule(name, output.axis, leaders.index(config.inputs[like].like or like), like))
    return Rules(tuple(sorted(pads, key=lambda rule: not rule.leads)), tuple(cuts))


def fill_value(datatype: Datatype, value: float) -> object:
    """The value as an element of that datatype. Raises `ValueError`, saying what would be right, if it cannot be one.

    Floats are rounded to the nearest value. For BYTES, 0, which is the default, stands for the empty string.
    """
    if datatype is Datatype.BYTES:
        if value != 0:
            raise ValueError("expected 0, which stands for the empty string in an input of BYTES")
        return b""
    storage = STORAGE[datatype]
    if datatype is Datatype.BF16:
        return storage.type(_bfloat16_bits(value))
    if storage.kind == "f":
        return _rounded(datatype, storage, value)
    least, most = (0, 1) if storage.kind == "b" else (np.iinfo(storage).min, np.iinfo(storage).max)
    if value != int(value) or not least <= value <= most:
        raise ValueError(f"expected a whole number from {least} to {most}, as {datatype} has them")
    return storage.type(int(value))


def _rounded(datatype: Datatype, storage: np.dtype[Any], value: float) -> Any:
    try:
        with np.errstate(over="ignore"):
            rounded = storage.type(float(value))
    except OverflowError:
        rounded = storage.type(math.inf)
    if not np.isfinite(rounded):
        most = float(np.finfo(storage).max)
        raise ValueError(f"expected a number from {-most:.6g} to {most:.6g}, as {datatype} has them")
    return rounded


def _bfloat16_bits(value: float) -> int:
    """The upper half of a 32-bit float, rounded to the nearest; ties to even."""
    bits = int(_rounded(Datatype.BF16, np.dtype(np.float32), value).view(np.uint32))
    bits = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    if bits & 0x7F80 == 0x7F80:
        raise ValueError("expected a number from -3.38953e+38 to 3.38953e+38, as BF16 has them")
    return bits


def _leaders(signature: Signature, config: PaddingConfig) -> list[str]:
    """The inputs that have buckets of their own, in the order of the signature."""
    return [spec.name for spec in signature.inputs if spec.name in config.inputs and not config.inputs[spec.name].like]


def _faults(signature: Signature, config: PaddingConfig) -> list[Fault]:
    if not signature.batched:
        return [Fault("padding", None, NOT_BATCHED)]
    faults: list[Fault] = []
    inputs = {spec.name: spec for spec in signature.inputs}
    for name, entry in config.inputs.items():
        key = dotted(["padding", "inputs", name])
        faults += _shape_faults(key, "input", name, inputs, entry)
        faults += _input_like_faults(f"{key}.like", entry, config)
        if name in inputs:
            faults += _value_faults(f"{key}.value", inputs[name], entry.value)
    outputs = {spec.name: spec for spec in signature.outputs}
    leaders = [name for name, entry in config.inputs.items() if entry.like is None]
    for name, output in config.outputs.items():
        key = dotted(["padding", "outputs", name])
        faults += _shape_faults(key, "output", name, outputs, output)
        faults += _output_like_faults(f"{key}.like", output, list(config.inputs), leaders)
    return faults


def _shape_faults(
    key: str, kind: str, name: str, specs: Mapping[str, TensorSpec], entry: PaddedInput | CutOutput
) -> list[Fault]:
    spec = specs.get(name)
    if spec is None:
        hint = nearest(name, list(specs))
        return [Fault(key, None, f"unknown {kind}{hint or ';'} {'The' if hint else 'the'} model has {_listed(specs)}")]
    axis_key = f"{key}.axis"
    if entry.axis >= len(spec.shape):
        reason = f"expected an axis that {kind} {name!r} has; it has {len(spec.shape)}, and the first is 0"
        return [Fault(axis_key, shown(entry.axis), reason)]
    size = spec.shape[entry.axis]
    if size is not None:
        reason = f"expected an axis of any size; this one of {kind} {name!r} always has the size {size}"
        return [Fault(axis_key, shown(entry.axis), reason)]
    return []


def _value_faults(key: str, spec: TensorSpec, value: float) -> list[Fault]:
    try:
        fill_value(spec.datatype, value)
    except ValueError as error:
        return [Fault(key, shown(value), str(error))]
    return []


def _input_like_faults(key: str, entry: PaddedInput, config: PaddingConfig) -> list[Fault]:
    if entry.like is None:
        return []
    leader = config.inputs.get(entry.like)
    if leader is not None and leader.like is None:
        return []
    leaders = [name for name, each in config.inputs.items() if each.like is None]
    return [Fault(key, shown(entry.like), f"expected a padded input that has buckets: {_listed(leaders)}")]


def _output_like_faults(key: str, output: CutOutput, padded: Sequence[str], leaders: Sequence[str]) -> list[Fault]:
    if output.like is None:
        if len(leaders) == 1:
            return []
        if not leaders:
            right = "add [padding.inputs.NAME] for the one whose length the output follows"
            return [Fault(key, None, f"no input has buckets; {right}")]
        many = "several inputs are padded, each to buckets of its own"
        return [Fault(key, None, f"{many}; say which one's length the output follows: {_listed(leaders)}")]
    if output.like in padded:
        return []
    return [Fault(key, shown(output.like), f"expected an input that is padded: {_listed(padded)}")]


def _listed(names: Sequence[str] | Mapping[str, object]) -> str:
    shown_names = [repr(name) for name in names][:MOST_NAMES]
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return (", ".join(shown_names) or "there is none") + more
