"""What V2 requests are checked for over REST and over gRPC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from sluice.gateway.dialects.formats.body_bounds import check_rows
from sluice.gateway.dialects.formats.json_forms import shown
from sluice.inference.errors import InvalidRequest


def check_shape(name: str, shape: Sequence[int], max_rows: int | None) -> None:
    """Raises `RequestTooLarge` for an input whose shape has more than `max_rows` rows; `None` is no bound."""
    if max_rows is not None and shape and shape[0] > max_rows:
        check_rows(name, shape[0], max_rows)


def refuse_repeated(kind: str, names: Sequence[str]) -> None:
    """Raises `InvalidRequest` if two of the names are equal; `kind` says what they name."""
    if len(set(names)) != len(names):
        [(name, times)] = Counter(names).most_common(1)
        raise InvalidRequest(f"{kind} {shown(name)} is listed {times} times; every name may be listed once")
