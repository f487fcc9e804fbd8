"""Streams of rows for wrk: each row once, or some far more often than others. Fixed seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

ROW = """
local columns, rows = %d, %d
local rest = string.rep(",0.5", columns - 2)
local head = string.format('{"inputs":[{"name":"x","datatype":"FP32","shape":[%%d,%%d],"data":[', rows, columns)
local function row(number)
  return string.format("%%d,%%d%%s", number %% 4096, math.floor(number / 4096), rest)
end
local function body(next_number)
  local written = {}
  for place = 1, rows do written[place] = row(next_number()) end
  return wrk.format("POST", nil, nil, head .. table.concat(written, ",") .. "]}]}")
end
"""

UNIQUE = """
local number = %d
function request()
  return body(function() number = number + 1; return number end)
end
"""

DRAWN = """
local numbers, place = {}, %d
for line in io.lines("%s") do numbers[#numbers + 1] = tonumber(line) end
function request()
  return body(function() place = place %% #numbers + 1; return numbers[place] end)
end
"""


def unique(columns: int, rows: int, start: int) -> str:
    """A script that sends rows that were never sent before, if `start` is far enough from the last one."""
    return ROW % (columns, rows) + UNIQUE % start


def drawn(columns: int, rows: int, file: Path, place: int) -> str:
    """A script that sends the rows whose numbers stand in a file, beginning at a place."""
    return ROW % (columns, rows) + DRAWN % (place, file)


def zipf(exponent: float, distinct: int, draws: int, seed: int) -> Sequence[int]:
    """Numbers from 0 up, below `distinct`: the one of rank k is drawn in proportion to 1 / k ** `exponent`."""
    weights = 1 / np.arange(1, distinct + 1) ** exponent
    numbers = np.random.default_rng(seed).choice(distinct, draws, p=weights / weights.sum())
    return [int(number) for number in numbers]
