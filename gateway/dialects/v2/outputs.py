"""How a V2 request wants its outputs: as binary tensors, or as classes in place of numbers.

The binary tensor data extension and the classification extension of the Open Inference Protocol, as Triton Inference
Server has them: `extension_binary_data.md` and `extension_classification.md` of its protocol.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from types import MappingProxyType

import msgspec

from sluice.gateway.dialects.formats.classes import classified_in_steps
from sluice.gateway.dialects.formats.json_forms import shown
from sluice.gateway.dialects.v2.shared_memory import refuse_shared_memory
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import ParameterValue, Tensor

BINARY_OUTPUTS = "binary_data_output"
BINARY, CLASSES = "binary_data", "classification"


class RequestedOutput(msgspec.Struct, gc=False):
    """An output that a request names."""

    name: str
    parameters: dict[str, ParameterValue] | None = None


class OutputForm(msgspec.Struct, frozen=True):
    """How one output is written: binary or as JSON. If `classes` is not 0, as that many of its highest values."""

    binary: bool
    classes: int = 0


class V2AnswerForm(msgspec.Struct, frozen=True, tag="v2"):
    """How the outputs of an answer are written: `forms` by output, and `binary` for all outputs without one.

    `labels` has the names of the classes by output. `batched` says whether axis 0 counts rows.
    """

    binary: bool = False
    forms: Mapping[str, OutputForm] = MappingProxyType({})
    labels: Mapping[str, Sequence[str] | str] = MappingProxyType({})
    batched: bool = True

    def form_of(self, name: str) -> OutputForm:
        """How this output is written."""
        return self.forms.get(name) or OutputForm(self.binary)

    def shaped_in_steps(self, tensor: Tensor) -> Generator[None, None, Tensor]:
        """The output, or its classes where those are wanted. Raises `InvalidRequest` for an output that has none."""
        classes = self.form_of(tensor.name).classes
        if not classes:
            return tensor
        labels = self.labels.get(tensor.name, ())
        return (yield from classified_in_steps(tensor, classes, labels, batched=self.batched))


def answer_form_of(outputs: Sequence[RequestedOutput], parameters: Mapping[str, ParameterValue]) -> V2AnswerForm | None:
    """How a request wants its outputs; `None` for plain JSON. Raises `InvalidRequest`, naming the parameter."""
    binary = _truth("the request", BINARY_OUTPUTS, parameters.get(BINARY_OUTPUTS, False))
    forms = {output.name: _form_of(output, binary=binary) for output in outputs if output.parameters}
    return V2AnswerForm(binary, forms) if binary or forms else None


def _form_of(output: RequestedOutput, *, binary: bool) -> OutputForm:
    where = f"output {shown(output.name)}"
    said = output.parameters or {}
    refuse_shared_memory(where, said)
    classes = said.get(CLASSES, 0)
    # To Python, true is the number 1.
    if CLASSES in said and (type(classes) is not int or classes < 1):
        raise InvalidRequest(f"{where}: {CLASSES!r} is {shown(classes)}; expected how many classes to tell, from 1 up")
    return OutputForm(_truth(where, BINARY, said.get(BINARY, binary)), int(classes))


def _truth(where: str, name: str, value: ParameterValue) -> bool:
    if type(value) is not bool:
        raise InvalidRequest(f"{where}: {name!r} is {shown(value)}; expected true or false")
    return value
