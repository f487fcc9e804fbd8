"""Decoders of nested JSON lists whose elements have one type."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import msgspec

from sluice.gateway.dialects.formats.json_forms import FORMS
from sluice.inference.types import Datatype

MAX_TYPED_AXES = 8
"""Deeper nesting is rare, and left to the slow reader instead of building a decoder for each depth."""


@lru_cache(maxsize=len(FORMS) * MAX_TYPED_AXES)
def nested_decoder(datatype: Datatype, depth: int) -> msgspec.json.Decoder[list[Any]]:
    """The decoder of lists that are nested `depth` deep and have elements of this datatype."""
    kind: Any = FORMS[datatype].element
    for _ in range(depth):
        kind = list[kind]
    return msgspec.json.Decoder(kind)
