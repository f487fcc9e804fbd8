"""How a caller controls the cache of rows, and is told of hits: the headers `Cache-Control` and `X-Cache`.

Of the directives of RFC 9111, section 5.2.1, `no-cache` has every row computed anew and stored, and `no-store` neither
reads nor writes the cache. All others concern caches of HTTP answers and are ignored.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from sluice.gateway.messages import Header
from sluice.inference.types import CacheUse, Caching, InferenceRequest

CACHE_CONTROL = b"cache-control"

ONE_HIT = b"hit; rows=1/1"
ONE_MISS = b"miss; rows=0/1"


def with_caching(request: InferenceRequest, headers: Sequence[Header]) -> InferenceRequest:
    """The request with the `caching` that its headers ask for. An argument of a directive is ignored."""
    values = [value for name, value in headers if name == CACHE_CONTROL]
    if not values:
        return request
    said = {directive.partition(b"=")[0].strip(b" \t").lower() for value in values for directive in value.split(b",")}
    if b"no-store" in said:
        return replace(request, caching=Caching.PASS)
    if b"no-cache" in said:
        return replace(request, caching=Caching.RENEW)
    return request


def x_cache(use: CacheUse) -> bytes:
    """`hit`, `miss` or `partial`, and how many of the rows were hits."""
    hits, rows = use.hits, use.rows
    if rows == 1:
        return ONE_HIT if hits else ONE_MISS
    word = b"hit" if hits == rows else b"partial" if hits else b"miss"
    return b"%b; rows=%d/%d" % (word, hits, rows)
