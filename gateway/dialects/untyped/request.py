"""Tells what a body is: multipart, JSON, CSV, `.npy`, an image or a string.

TorchServe's clients seldom name the content type, and curl names a wrong one. So the beginning of the body decides, and
the content type only where that leaves it open.
"""

from __future__ import annotations

from collections.abc import Mapping

from sluice.gateway.dialects.base import Callee
from sluice.gateway.dialects.formats.body_bounds import check_structure
from sluice.gateway.dialects.formats.csv_rows import tensor_from_csv
from sluice.gateway.dialects.formats.json_forms import listed
from sluice.gateway.dialects.formats.multipart import parts_of
from sluice.gateway.dialects.formats.npy import MAGIC
from sluice.gateway.dialects.untyped.body import (
    ROWS,
    WHOLE,
    looks_like_json,
    only_input,
    request_from_files,
    request_from_json,
    request_from_npy,
)
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import Datatype, InferenceRequest, Signature

LIGHT_BYTES = 32768
"""A body that is no JSON, and up to this length, is read in the event loop."""

ITEM_NAMES = ("data", "body")
"""Names that TorchServe's handlers have for the part with the item."""

FILES = (MAGIC, b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")
"""The first bytes of `.npy`, JPEG and PNG files. No JSON begins with them."""


def is_heavy(body: bytes | bytearray, callee: Callee) -> bool:
    """Whether reading the body may take long, as it does for images and for other large files."""
    return (bool(callee.images) or len(body) > LIGHT_BYTES) and not looks_like_json(body)


def request_from_body(body: bytes | bytearray, content_type: bytes, callee: Callee) -> InferenceRequest:
    """The request in a body; its reply is an `UntypedAnswerForm`. Raises `InvalidRequest` and `RequestTooLarge`."""
    kind = content_type.partition(b";")[0].strip().lower()
    if kind == b"multipart/form-data":
        return request_from_files(_named(parts_of(body, content_type), callee.signature), callee)
    if not body:
        raise InvalidRequest("the body is empty")
    if kind == b"text/csv":
        spec = only_input(callee.signature)
        check_structure(body, callee.signature, callee.max_rows)
        return InferenceRequest(
            (tensor_from_csv(spec, body, callee.rows_bound),), reply=ROWS if callee.signature.batched else WHOLE
        )
    is_json = kind in (b"application/json", b"application/x-json") or kind.endswith(b"+json")
    if (is_json and not body.startswith(FILES)) or (looks_like_json(body) and not _takes_text(callee.signature)):
        return request_from_json(body, callee)
    if body.startswith(MAGIC):
        return request_from_npy(body, callee)
    return request_from_files({only_input(callee.signature).name: body}, callee)


def _takes_text(signature: Signature) -> bool:
    return len(signature.inputs) == 1 and signature.inputs[0].datatype is Datatype.BYTES


def _named(parts: Mapping[str, bytes], signature: Signature) -> Mapping[str, bytes]:
    """The parts by the inputs that they are for. The part for an only input may have any name."""
    if len(signature.inputs) != 1:
        return parts
    name = signature.inputs[0].name
    if len(parts) == 1:
        return {name: next(iter(parts.values()))}
    found = [parts[each] for each in (name, *ITEM_NAMES) if each in parts]
    if not found:
        raise InvalidRequest(f"the body has the parts {listed(parts) or 'none'}; expected one, called 'data'")
    return {name: found[0]}
