"""What `sluice serve` prints when it is ready: its addresses, its models, and a call of each that can be pasted."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from sluice.gateway.assembly import VERSION
from sluice.gateway.serving.catalogue import Catalogue
from sluice.gateway.serving.model import ServedModel
from sluice.gateway.settings.sections import ServerSettings
from sluice.gateway.telemetry.log_writer import LogWriter
from sluice.inference.types import Datatype, Signature

STANDARD_OUTPUT = 1
MAX_MODELS_SHOWN = 5
MAX_INLINE_ELEMENTS = 64


def print_banner(server: ServerSettings, catalogue: Catalogue, address: tuple[Any, ...]) -> None:
    """Write the banner to standard output: whole or not at all, and without waiting for a reader."""
    LogWriter(STANDARD_OUTPUT).write(banner(server, catalogue, address) + "\n")


def banner(server: ServerSettings, catalogue: Catalogue, address: tuple[Any, ...]) -> str:
    """A few lines for the person who started the server. `address` is the one that HTTP is served at.

    At most `MAX_MODELS_SHOWN` models are named.
    """
    host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
    url = f"{'http' if server.tls_cert is None else 'https'}://{host}:{address[1]}"
    lines = [f"Sluice {VERSION} is ready at {url}", f"  API pages  {url}/docs", f"  metrics    {url}/metrics"]
    if server.grpc_port:
        lines.append(f"  gRPC       {host}:{server.grpc_port}")
    if server.management_port:
        lines.append(f"  management {server.management_host}:{server.management_port}")
    for name in catalogue.models[:MAX_MODELS_SHOWN]:
        served = catalogue.resolve(name, None)
        versions = ", ".join(str(each.version) for each in catalogue.versions(name))
        lines.append(f"\n{name} (version {versions})")
        argument = sample_argument(served)
        page = f"{url}/v2/models/{name}"
        lines.append(f"  curl {page}" if argument is None else f"  curl -d {argument} {page}/infer")
    hidden = len(catalogue.models) - MAX_MODELS_SHOWN
    if hidden > 0:
        lines.append(f"\nand {hidden} more: {url}/v2/models")
    broken = dict.fromkeys(each.name for each in catalogue.broken)
    if broken:
        shown = ", ".join([*broken][:MAX_MODELS_SHOWN]) + (", …" if len(broken) > MAX_MODELS_SHOWN else "")
        lines.append(f"\nnot served, or not whole: {shown}; {url}/v2/health says why")
    return "\n".join(lines) + "\n"


def sample_argument(served: ServedModel) -> str | None:
    """The argument of `curl -d` that calls a model: its own sample, or else zeros; `None` if those would be many."""
    sample = served.sample
    if sample is not None:
        return shlex.quote(f"@{_shortest(sample)}")
    body = zeros(served.signature)
    return None if body is None else shlex.quote(body)


def zeros(signature: Signature) -> str | None:
    """A request of one row that the model takes, as V2 JSON on one line.

    `None` if an input has more than `MAX_INLINE_ELEMENTS` elements.
    """
    inputs = []
    for spec in signature.inputs:
        shape = [1 if size is None else size for size in spec.shape]
        count = 1
        for size in shape:
            count *= size
        if count > MAX_INLINE_ELEMENTS:
            return None
        element = {Datatype.BYTES: "", Datatype.BOOL: False}.get(spec.datatype, 0)
        inputs.append({"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": [element] * count})
    return json.dumps({"inputs": inputs})


def _shortest(file: Path) -> Path:
    try:
        here = Path.cwd()
    except OSError:  # the folder is gone
        return file
    return file.relative_to(here) if file.is_relative_to(here) else file
