"""The parts of a `multipart/form-data` body. The door to `python_multipart`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gateway.dialects.json_forms import shown
from inference.errors import InvalidRequest

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_PARTS = 64


def parts_of(body: bytes | bytearray, content_type: bytes) -> Mapping[str, bytes]:
    """The contents of the parts, by name. Raises `InvalidRequest` for a broken body and a name that stands twice."""
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise InvalidRequest("the content type multipart/form-data names no boundary")
    reading = _Reading()
    try:
        parser = MultipartParser(boundary, reading.callbacks())
        parser.write(bytes(body))
        parser.finalize()
    except (FormParserError, ValueError) as error:
        raise InvalidRequest(f"the multipart body is broken: {error}") from None
    if not reading.ended:
        raise InvalidRequest("the multipart body ends before its last boundary")
    return reading.parts


class _Reading:
    """Gathers what the parser calls out."""

    def __init__(self) -> None:
        self.parts: dict[str, bytes] = {}
        self.ended = False
        self._name = b""
        self._value = b""
        self._disposition = b""
        self._pieces: list[bytes] = []

    def callbacks(self) -> MultipartCallbacks:
        """What the parser calls, by its own names."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_part_data": self._data,
            "on_part_end": self._end,
            "on_end": self._last,
        }

    def _begin(self) -> None:
        if len(self.parts) == MAX_PARTS:
            raise InvalidRequest(f"the multipart body has more than {MAX_PARTS} parts")
        self._disposition, self._pieces = b"", []

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._name.lower() == b"content-disposition":
            self._disposition = self._value
        self._name = self._value = b""

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._pieces.append(data[start:end])

    def _end(self) -> None:
        name = parse_options_header(self._disposition)[1].get(b"name", b"").decode("utf-8", "replace")
        if not name:
            raise InvalidRequest("a part of the multipart body has no name")
        if name in self.parts:
            raise InvalidRequest(f"the multipart body has two parts called {shown(name)}; every name may stand once")
        self.parts[name] = b"".join(self._pieces)

    def _last(self) -> None:
        self.ended = True
