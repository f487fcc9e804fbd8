"""Request targets in origin form, in which pages know them (RFC 9112, section 3.2)."""

from __future__ import annotations

import re

_ABSOLUTE = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


def origin_form(target: bytes) -> bytes | None:
    """The path and query of a target, without a fragment; `None` where it has no path, as an authority has none.

    The path of an address without one is `/`. `*`, which asks about the server as a whole, counts as a path.
    """
    if not target.isascii():
        return None
    target = target.partition(b"#")[0]
    absolute = _ABSOLUTE.match(target)
    if absolute is not None:
        target = target[absolute.end() :]
        if not target.startswith(b"/"):
            target = b"/" + target
    return target if target.startswith(b"/") or target == b"*" else None
