from __future__ import annotations

import pytest

from sluice.gateway.headers.cache_control import with_caching, x_cache
from sluice.inference.types import CacheUse, Caching, InferenceRequest

REQUEST = InferenceRequest(())


@pytest.mark.parametrize(
    ("values", "caching"),
    [
        ([], Caching.USE),
        ([b""], Caching.USE),
        ([b"no-cache"], Caching.RENEW),
        ([b"No-Cache"], Caching.RENEW),
        ([b"no-store"], Caching.PASS),
        ([b"no-cache, no-store"], Caching.PASS),
        ([b"no-store,no-cache"], Caching.PASS),
        ([b"no-cache", b"no-store"], Caching.PASS),
        ([b"max-age=0 ,\tno-cache "], Caching.RENEW),
        ([b'no-cache="x-field"'], Caching.RENEW),
        ([b"max-age=0"], Caching.USE),
        ([b"no-cached, xno-store, \xff"], Caching.USE),
    ],
)
def test_directives(values: list[bytes], caching: Caching) -> None:
    headers = [(b"x-other", b"no-store"), *[(b"cache-control", value) for value in values]]
    assert with_caching(REQUEST, headers).caching is caching


@pytest.mark.parametrize(
    ("hits", "rows", "text"),
    [
        (1, 1, b"hit; rows=1/1"),
        (0, 1, b"miss; rows=0/1"),
        (0, 7, b"miss; rows=0/7"),
        (3, 7, b"partial; rows=3/7"),
        (7, 7, b"hit; rows=7/7"),
    ],
)
def test_what_the_caller_hears(hits: int, rows: int, text: bytes) -> None:
    assert x_cache(CacheUse(rows, hits)) == text
