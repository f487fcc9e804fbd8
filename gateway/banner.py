"""What `sluice serve` prints when it is ready: where it listens, what it serves, and a call that can be pasted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gateway.app import VERSION, Gateway
from gateway.serving import ServedVersion
from inference.types import Datatype, Signature

MAX_MODELS_SHOWN = 5
MAX_INLINE_ELEMENTS = 64


def banner(gateway: Gateway, address: tuple[Any, ...]) -> str:
    """A few lines for the person who started the server."""
    server = gateway.settings.server
    host = f"[{address[0]}]" if ":" in str(address[0]) else address[0]
    url = f"{'http' if server.tls_cert is None else 'https'}://{host}:{address[1]}"
    lines = [f"Sluice {VERSION} is ready at {url}", f"  API pages  {url}/docs", f"  metrics    {url}/metrics"]
    for name in gateway.catalogue.models[:MAX_MODELS_SHOWN]:
        served = gateway.catalogue.resolve(name, None)
        versions = ", ".join(str(each.version) for each in gateway.catalogue.versions(name))
        lines.append(f"\n{name} (version {versions})")
        lines.append(f"  curl -d {sample_argument(served)} {url}/v2/models/{name}/infer")
    hidden = len(gateway.catalogue.models) - MAX_MODELS_SHOWN
    if hidden > 0:
        lines.append(f"\nand {hidden} more: {url}/v2/models")
    return "\n".join(lines) + "\n"


def sample_argument(served: ServedVersion) -> str:
    """What to write behind `curl -d` for a model: its own sample if it has one, else zeros of the right shape."""
    sample = served.sample
    if sample is not None:
        return f"@{_shortest(sample)}"
    return f"'{zeros(served.signature)}'"


def zeros(signature: Signature) -> str:
    """A request that the model takes, of one row, as V2 JSON on one line."""
    inputs = []
    for spec in signature.inputs:
        shape = [1 if size is None else size for size in spec.shape]
        count = 1
        for size in shape:
            count *= size
        if count > MAX_INLINE_ELEMENTS:
            return '{"inputs": …}'
        element = {Datatype.BYTES: "", Datatype.BOOL: False}.get(spec.datatype, 0)
        inputs.append({"name": spec.name, "datatype": spec.datatype, "shape": shape, "data": [element] * count})
    return json.dumps({"inputs": inputs})


def _shortest(file: Path) -> Path:
    here = Path.cwd()
    return file.relative_to(here) if file.is_relative_to(here) else file
