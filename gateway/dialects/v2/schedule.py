"""The parameters by which a V2 caller says how its request is to be scheduled.

They are those of the Open Inference Protocol's schedule policy extension, as Triton Inference Server has it:
`timeout` in microseconds, and `priority`, where 1 is the highest. Zero is the same as leaving either out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sluice.gateway.dialects.formats.json_forms import shown
from sluice.inference.errors import InvalidRequest
from sluice.inference.types import DEFAULT_PRIORITY, LOWEST_PRIORITY, NO_PARAMETERS, Parameters, ParameterValue

TIMEOUT, PRIORITY = "timeout", "priority"
LONGEST_TIMEOUT_US = 2**63 - 1


class Schedule(NamedTuple):
    """The timeout and the priority that a request asks for, and its other `parameters`."""

    parameters: Parameters = NO_PARAMETERS
    timeout_s: float | None = None
    priority: int = DEFAULT_PRIORITY


UNSAID = Schedule()


def schedule_of(parameters: Mapping[str, ParameterValue]) -> Schedule:
    """The schedule that parameters ask for. Raises `InvalidRequest`, naming the parameter and what was expected."""
    if TIMEOUT not in parameters and PRIORITY not in parameters:
        return Schedule(parameters)
    rest = {name: value for name, value in parameters.items() if name not in (TIMEOUT, PRIORITY)}
    return Schedule(rest, _timeout_s(parameters.get(TIMEOUT, 0)), _priority(parameters.get(PRIORITY, 0)))


def _timeout_s(value: ParameterValue) -> float | None:
    # To Python, true is the number 1.
    if type(value) is not int or not 0 <= value <= LONGEST_TIMEOUT_US:
        raise InvalidRequest(
            f"parameter {TIMEOUT!r} is {shown(value)}; expected a whole number of microseconds "
            f"from 1 to {LONGEST_TIMEOUT_US}, or 0 for no timeout"
        )
    return value / 1e6 if value else None


def _priority(value: ParameterValue) -> int:
    if type(value) is not int or not 0 <= value <= LOWEST_PRIORITY:
        raise InvalidRequest(
            f"parameter {PRIORITY!r} is {shown(value)}; expected a whole number from 1, the highest, "
            f"to {LOWEST_PRIORITY}, or 0 for the default, {DEFAULT_PRIORITY}"
        )
    return value or DEFAULT_PRIORITY
