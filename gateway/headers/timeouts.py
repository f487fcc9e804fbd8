"""The header `X-Request-Timeout-Ms`, in which a caller of any dialect says how long it will wait."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import msgspec

from sluice.gateway.messages import Header
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import InferenceRequest

REQUEST_TIMEOUT = b"x-request-timeout-ms"
_MILLISECONDS = re.compile(rb"[ \t]*([0-9]{1,15}(?:\.[0-9]{1,15})?)[ \t]*")


def within_timeout(request: InferenceRequest, headers: Sequence[Header], spent_s: float) -> InferenceRequest:
    """The request with the time that is left for it: the shortest timeout in its headers and its body, less `spent_s`.

    Timeouts count from the moment at which the call was complete, which is `spent_s` seconds ago. The time left may be
    zero or negative. Raises `InvalidRequest` if a header is not a decimal number of milliseconds above zero.
    """
    granted_s = [timeout_s(value) for name, value in headers if name == REQUEST_TIMEOUT]
    if request.timeout_s is not None:
        granted_s.append(request.timeout_s)
    if not granted_s:
        return request
    return msgspec.structs.replace(request, timeout_s=min(granted_s) - spent_s)


def granted_s(headers: Sequence[Header]) -> float:
    """The timeout in the headers, in seconds; infinite without one. Raises `InvalidRequest`."""
    return min([timeout_s(value) for name, value in headers if name == REQUEST_TIMEOUT], default=math.inf)


def timeout_s(value: bytes) -> float:
    """The timeout in a value of the header, in seconds. Raises `InvalidRequest`."""
    match = _MILLISECONDS.fullmatch(value)
    milliseconds = float(match[1]) if match is not None else 0.0
    if milliseconds <= 0:
        shown = value[:40].decode("latin-1")
        raise InvalidRequest(
            f"the header X-Request-Timeout-Ms is {shown!r}; expected a number of milliseconds above 0, "
            "such as 250 or 0.5"
        )
    return milliseconds / 1e3
