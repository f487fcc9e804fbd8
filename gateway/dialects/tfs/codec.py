"""TensorFlow Serving's REST API, version 1: `:predict`, `:classify` and `:regress`.

https://www.tensorflow.org/tfx/serving/api_rest is the specification. As there, numbers may be `NaN`, `Infinity` and
`-Infinity` in both directions, and the content type is ignored.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Sequence
from typing import Any

from sluice.gateway.dialects.base import JSON, Call, Callee, Dialect
from sluice.gateway.dialects.formats.body_bounds import check_structure
from sluice.gateway.dialects.formats.json_values import columns_in_steps, rows_in_steps
from sluice.gateway.dialects.refusals import error_object
from sluice.gateway.dialects.targets import quoted, version_of
from sluice.gateway.dialects.tfs.body import PredictAnswerForm, decode_predict
from sluice.gateway.dialects.tfs.examples import WantedResults, decode_examples, results_in_steps
from sluice.gateway.dialects.tfs.openapi import verb_paths
from sluice.gateway.dialects.tfs.tape import COLUMNS
from sluice.gateway.messages import Header, HttpResponse
from sluice.inference.errors import InvalidRequest, SluiceError
from sluice.inference.types import InferenceRequest, InferenceResponse, Tensor

PREFIX = "/v1/models/"
_TARGET = re.compile(r"/v1/models/([^/:]+)(?:/versions/([^/:]*)|/labels/([^/:]+))?:([^/:]*)/?")
_VERBS = ("predict", "classify", "regress")


class Tfs(Dialect):
    """What the verbs of TensorFlow Serving have in common: paths and errors, which are `{"error": "…"}`."""

    name = "tfs"
    headers = frozenset[bytes]()
    verb: str

    def recognise(self, path: str) -> Call | None:
        """The call that a path with this verb names.

        Raises `VersionNotFound` for a version that is no number, and `InvalidRequest` for an unknown verb.
        """
        if not path.startswith(PREFIX):
            return None
        target = _TARGET.fullmatch(path)
        if target is None:
            return None
        model, version, label, verb = target.groups()
        if verb not in _VERBS:
            raise InvalidRequest(f"malformed request: the path ends with {quoted(verb)}; expected one of {_VERBS}")
        if verb != self.verb:
            return None
        return Call(model, None if version is None else version_of(model, version), label)

    def refuse(self, error: SluiceError) -> HttpResponse:
        """`{"error": "…"}`, with the statuses that V2 has, too."""
        return error_object(error)

    def openapi_paths(self) -> dict[str, Any]:
        """The OpenAPI 3.1 `paths` of the verb."""
        return verb_paths(self.verb)


class TfsPredict(Tfs):
    """`:predict`: rows (`instances`, answered with `predictions`) or columns (`inputs`, answered with `outputs`)."""

    verb = "predict"

    def decode(self, body: bytes | bytearray, headers: Sequence[Header], callee: Callee) -> InferenceRequest:
        """The request in a body. Raises `InvalidRequest` and `RequestTooLarge`."""
        check_structure(body, callee.signature, callee.max_rows)
        return decode_predict(body, callee.signature, callee.rows_bound)

    def encode_in_steps(
        self, request: InferenceRequest, response: InferenceResponse
    ) -> Generator[None, None, HttpResponse]:
        """The answer in the request's form. Raises `InvalidRequest` if rows are wanted and the outputs have none."""
        assert isinstance(request.reply, PredictAnswerForm)
        outputs = response.outputs
        if request.reply.form == COLUMNS:
            return HttpResponse(200, b'{"outputs":%b}' % (yield from columns_in_steps(outputs)), JSON)
        text = yield from rows_in_steps(outputs, _common_rows(outputs))
        return HttpResponse(200, b'{"predictions":%b}' % text, JSON)


def _common_rows(outputs: Sequence[Tensor]) -> int:
    """The common length of all outputs, which is the number of predictions; 0 without outputs.

    It need not be the number of instances: a detector may find several things in one picture. Raises `InvalidRequest`
    if outputs differ in length.
    """
    rows = None
    for tensor in outputs:
        shape = tensor.array.shape
        if not shape or rows not in (None, shape[0]):
            others = "" if rows is None else f", and others have {rows} rows"
            raise InvalidRequest(
                f"output {tensor.name!r} has shape {list(shape)}{others}: 'predictions' need outputs of one length; "
                "ask with 'inputs' instead of 'instances'"
            )
        rows = shape[0]
    return rows or 0


class TfsExamples(Tfs):
    """`:classify` and `:regress`: examples of named features, answered with `results` from one output."""

    def __init__(self, wanted: WantedResults) -> None:
        self.verb = wanted.verb
        self._wanted = wanted

    def decode(self, body: bytes | bytearray, headers: Sequence[Header], callee: Callee) -> InferenceRequest:
        """The request in a body. Raises `InvalidRequest`, also for a model without such outputs."""
        check_structure(body, callee.signature, callee.max_rows)
        return decode_examples(body, callee, self._wanted)

    def encode_in_steps(
        self, request: InferenceRequest, response: InferenceResponse
    ) -> Generator[None, None, HttpResponse]:
        """A list of `[label, score]` pairs, or a value, for each example."""
        return HttpResponse(200, b'{"results":%b}' % (yield from results_in_steps(request, response)), JSON)
