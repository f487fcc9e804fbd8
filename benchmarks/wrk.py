"""Driving a server with wrk, and reading what it saw."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import msgspec

from benchmarks.processes import Server

POST = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
"""

SAME = """
local file = io.open("%s", "rb")
wrk.body = file:read("*a")
file:close()
"""

REPORT = """
function done(summary, latency, requests)
  io.write(string.format(
    'RESULT {"requests": %d, "duration_s": %f, "p50_ms": %f, "p99_ms": %f, "failures": "%s"}\\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    failures(summary.errors)))
end

function failures(errors)
  local said = ""
  for _, kind in ipairs({"status", "connect", "read", "write", "timeout"}) do
    if errors[kind] > 0 then said = said .. string.format("%s: %d ", kind, errors[kind]) end
  end
  return said
end
"""


class Load(msgspec.Struct, frozen=True):
    """What one closed-loop run saw."""

    requests_per_s: float
    p50_ms: float
    p99_ms: float
    cpu_s_per_1000: float


def drive(
    server: Server,
    path: str,
    body: bytes,
    connections: int,
    duration_s: int,
    headers: Mapping[str, str] = MappingProxyType({}),
) -> Load:
    """Send `body` to `path` over `connections` keep-alive connections. Raises if any request failed."""
    with tempfile.NamedTemporaryFile() as body_file:
        body_file.write(body)
        body_file.flush()
        script = SAME % body_file.name + "".join(
            f'wrk.headers["{name}"] = "{said}"\n' for name, said in headers.items()
        )
        return drive_script(server, path, script, connections, duration_s)


def drive_script(server: Server, path: str, requests: str, connections: int, duration_s: int) -> Load:
    """Send what the Lua script says. Raises if any request failed."""
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "post.lua")
        script.write_text(POST + requests + REPORT)
        url = f"http://127.0.0.1:{server.port}{path}"
        command = [_wrk(), "-t1", f"-c{connections}", f"-d{duration_s}", "--timeout", "20s", "-s", str(script), url]
        cpu_before_s = server.cpu_s()
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        cpu_s = server.cpu_s() - cpu_before_s
    seen = json.loads(next(line for line in output.splitlines() if line.startswith("RESULT")).removeprefix("RESULT"))
    if seen["failures"]:
        raise RuntimeError(f"of {seen['requests']} requests to {url} some failed: {seen['failures']}")
    return Load(
        requests_per_s=seen["requests"] / seen["duration_s"],
        p50_ms=seen["p50_ms"],
        p99_ms=seen["p99_ms"],
        cpu_s_per_1000=cpu_s / seen["requests"] * 1000,
    )


def _wrk() -> str:
    found = shutil.which("wrk")
    if found is None:
        raise SystemExit("the benchmarks need wrk: apt-get install wrk")
    return found
