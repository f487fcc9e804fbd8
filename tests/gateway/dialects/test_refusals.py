from __future__ import annotations

from types import MappingProxyType

import pytest

from sluice.gateway.dialects.refusals import encodable, entry_of, error_object, retry_after, text_of
from sluice.inference import errors
from sluice.inference.errors import InvalidRequest, ModelFailed, ModelNotFound, SluiceError, Unavailable

TABLE = MappingProxyType({InvalidRequest: "invalid", ModelNotFound: "missing", SluiceError: "ours"})


@pytest.mark.parametrize(
    ("error", "entry"),
    [
        (InvalidRequest("e"), "invalid"),
        (errors.NoSuchRegion("e"), "invalid"),
        (errors.VersionNotFound("e"), "missing"),
        (errors.Overloaded("e"), "ours"),
        (ModelFailed("e"), "ours"),
        (ModelFailed("e", invalid_input=True), "invalid"),
    ],
)
def test_an_error_has_the_entry_of_its_nearest_ancestor(error: SluiceError, entry: str) -> None:
    assert entry_of(error, TABLE) == entry


def test_texts_that_utf8_cannot_encode_are_escaped() -> None:
    assert encodable("a\ud800b ä") == "a\\ud800b ä"
    assert text_of(InvalidRequest("\udfff")) == "\\udfff"


def test_what_is_for_the_operator_is_not_told() -> None:
    assert text_of(errors.RepositoryError("/srv/secret")) == "internal error"


@pytest.mark.parametrize(("seconds", "header"), [(1.0, b"1"), (1.01, b"2"), (0.0, b"1"), (29.5, b"30")])
def test_when_to_try_again_is_in_whole_seconds_and_never_too_early(seconds: float, header: bytes) -> None:
    assert retry_after(Unavailable("e", seconds)) == ((b"retry-after", header),)
    assert retry_after(InvalidRequest("e")) == ()


def test_the_error_object() -> None:
    refused = error_object(errors.QueueFull("full", 2.5))
    assert (refused.status, refused.body) == (503, b'{"error":"full"}')
    assert refused.headers == ((b"content-type", b"application/json"), (b"retry-after", b"3"))
