"""Lines on their way out."""

from __future__ import annotations

import os

from sluice.gateway.telemetry.log_writer import WAITING_BYTES, LogWriter


def test_lines_come_out_whole_and_in_order() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading) as reader:
        outlet = LogWriter(writing)
        for number in range(1000):
            outlet.write(f"line {number}\n")
        outlet.close()
        os.close(writing)
        assert reader.read().splitlines() == [f"line {number}" for number in range(1000)]
        assert outlet.dropped_lines == 0


def test_a_reader_that_does_not_read_costs_lines_and_not_time() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as reader:
        outlet = LogWriter(writing)
        line = "x" * 1023 + "\n"
        for _ in range(2 * WAITING_BYTES // len(line)):
            outlet.write(line)
        dropped = outlet.dropped_lines
        assert dropped >= WAITING_BYTES // len(line) - 256
        read = sum(len(reader.readline()) for _ in range(2 * WAITING_BYTES // len(line) - dropped))
        assert read == 2 * WAITING_BYTES - dropped * len(line)
        outlet.close()
        os.close(writing)


def test_a_full_disk_costs_lines_only() -> None:
    with open("/dev/full", "wb") as full:
        outlet = LogWriter(full.fileno())
        outlet.write("one\n")
        outlet.close()
        assert outlet.dropped_lines == 1
