"""The path that a proxy took off a request's target: `X-Forwarded-Prefix`, and the setting `server.root_path`."""

from __future__ import annotations

import re
from collections.abc import Iterable

from sluice.gateway.messages import Header

FORWARDED_PREFIX = b"x-forwarded-prefix"
MAX_LENGTH = 256

_PLAIN = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+", re.ASCII)


def plain_prefix(text: str) -> str | None:
    """The prefix without the slash at its end, or `None` if it is no prefix.

    A prefix is at most `MAX_LENGTH` characters: letters, digits and `-._~` between slashes. It may be empty.
    """
    prefix = text.removesuffix("/")
    if len(prefix) > MAX_LENGTH or not (prefix == "" or _PLAIN.fullmatch(prefix)):
        return None
    return prefix


def forwarded_prefix(headers: Iterable[Header]) -> str:
    """What all proxies on the way took off, the outermost proxy's prefix first. Empty if any prefix is not plain."""
    told = b",".join([value for name, value in headers if name == FORWARDED_PREFIX]).decode("latin-1")
    prefixes = [plain_prefix(each.strip()) for each in told.split(",")]
    prefix = "".join([each or "" for each in prefixes])
    return "" if None in prefixes or len(prefix) > MAX_LENGTH else prefix
