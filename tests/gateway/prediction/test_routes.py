from __future__ import annotations

from sluice.gateway.dialects.base import Call
from sluice.gateway.dialects.v2.codec import V2
from sluice.gateway.prediction.routes import REMEMBERED_BYTES, Routes
from sluice.inference.errors import ModelNotFound


class CountingV2(V2):
    """Counts the paths that it is asked about."""

    asked = 0

    def recognise(self, path: str) -> Call | None:
        self.asked += 1
        return super().recognise(path)


def test_a_target_is_decoded_and_its_query_ignored() -> None:
    route = Routes([V2()]).recognise(b"/v2/models/a%20b/infer?x=1")
    assert route is not None
    assert route.call == Call("a b")


def test_a_target_is_recognised_once_and_a_long_one_each_time() -> None:
    dialect = CountingV2()
    routes = Routes([dialect])
    assert routes.recognise(b"/v2/models/m/infer") is routes.recognise(b"/v2/models/m/infer")
    assert dialect.asked == 1
    long = b"/v2/models/" + b"m" * REMEMBERED_BYTES + b"/infer"
    assert routes.recognise(long) == routes.recognise(long)
    assert dialect.asked == 3


def test_a_page_has_no_route_and_a_wrong_target_has_its_fault() -> None:
    routes = Routes([V2()])
    assert routes.recognise(b"/v2/models/m") is None
    wrong = routes.recognise(b"/v2/models/m/versions/latest/infer")
    assert wrong is not None
    assert isinstance(wrong.fault, ModelNotFound)
    assert wrong.fault.__traceback__ is None
