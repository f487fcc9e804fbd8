"""However the bytes of a pipeline are cut, the answers are the same."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.gateway.http.conftest import Way
from tests.gateway.http.servers import chunked, request

UNHURRIED = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@dataclass(frozen=True)
class Echo:
    """A request for its own body, which comes in chunks of these sizes, or whole."""

    target: str
    sizes: list[int]
    in_chunks: bool

    @property
    def chunks(self) -> list[bytes]:
        return [(b"%07d " % size * (size // 8 + 1))[:size] for size in self.sizes]

    @property
    def sent(self) -> bytes:
        if self.in_chunks:
            return chunked(self.target, *(chunk for chunk in self.chunks if chunk))
        return request(self.target, b"".join(self.chunks))


SIZES = st.one_of(st.integers(0, 20), st.integers(0, 9000), st.integers(50_000, 60_000))
ECHOES = st.builds(Echo, st.sampled_from(["/v2/echo", "/app/echo"]), st.lists(SIZES, max_size=4), st.booleans())


@UNHURRIED
@given(pipeline=st.lists(ECHOES, min_size=1, max_size=8), data=st.data())
def test_cuts_do_not_matter(lane: Way, pipeline: list[Echo], data: st.DataObject) -> None:
    sent = b"".join(echo.sent for echo in pipeline)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(sent)), max_size=12), label="cuts"))
    pieces = [sent[start:end] for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]
    with lane.client() as client:
        client.send(*pieces)
        for echo in pipeline:
            assert client.answer().body == b"".join(echo.chunks)
        assert client.is_open()


@UNHURRIED
@given(noise=st.binary(max_size=300), pipeline=st.lists(ECHOES, max_size=2), data=st.data())
def test_noise_harms_nobody(lane: Way, noise: bytes, pipeline: list[Echo], data: st.DataObject) -> None:
    sent = b"".join(echo.sent for echo in pipeline)
    at = data.draw(st.integers(0, len(sent)), label="at")
    with lane.client() as client, lane.client() as neighbour:
        client.send_what_is_taken([sent[:at] + noise + sent[at:]])
        assert neighbour.is_open()
