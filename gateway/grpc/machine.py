"""h2's state machine of HTTP/2, with our settings."""

from __future__ import annotations

from collections.abc import Iterable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hpack import Decoder, HeaderTuple, HPACKDecodingError
from hyperframe.frame import Frame

from sluice.gateway.grpc.heads import KNOWN, PlainEncoder
from sluice.gateway.grpc.limits import MAX_FRAME_BYTES, MAX_STREAMS, STREAM_WINDOW_BYTES, GrpcLimits

# h2 formats every frame for its log, the body in hex, even where nothing is logged: 80 µs for a full frame. And what
# clients send must not be in any log. mypy lets no method be assigned, though the class is ours to change at run time.
Frame.__repr__ = object.__repr__  # type: ignore[method-assign]

CONFIG = H2Configuration(
    client_side=False,
    header_encoding=None,
    # `head_of` checks headers: what is wrong with them ends their call, and not the connection.
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
    # What we send is valid already.
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
)

MOST_SIZE_UPDATES = 2
"""How often the size of the table may change before a list of headers (RFC 7541, section 4.2)."""


class _Decoder(Decoder):
    """Refuses more than `MOST_SIZE_UPDATES` in one list of headers. hpack takes any number, at a byte each."""

    _updates = 0

    def decode(self, data: bytes, raw: bool = False) -> Iterable[HeaderTuple]:
        """The headers of a list."""
        self._updates = 0
        return super().decode(data, raw)

    @property
    def header_table_size(self) -> int:
        """The size of the table of headers. An update sets it."""
        return super().header_table_size

    @header_table_size.setter
    def header_table_size(self, value: int) -> None:
        self._updates += 1
        if self._updates > MOST_SIZE_UPDATES:
            raise HPACKDecodingError("the size of the table of headers changes too often")
        self.header_table.maxsize = value


class _Machine(H2Connection):
    """h2's state machine, which remembers fewer closed streams: each takes memory as long as the connection lasts."""

    MAX_CLOSED_STREAMS = 4 * MAX_STREAMS


def machine_for(limits: GrpcLimits) -> H2Connection:
    """The state machine of a new connection."""
    machine = _Machine(CONFIG)
    machine.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: limits.max_streams,
            SettingCodes.INITIAL_WINDOW_SIZE: STREAM_WINDOW_BYTES,
            SettingCodes.MAX_FRAME_SIZE: MAX_FRAME_BYTES,
            SettingCodes.MAX_HEADER_LIST_SIZE: limits.wire.max_header_bytes,
        },
    )
    machine.decoder = _Decoder()
    machine.decoder.max_header_list_size = limits.max_block_bytes
    machine.encoder = PlainEncoder(KNOWN)  # type: ignore[assignment]  # has all that h2 uses
    return machine
