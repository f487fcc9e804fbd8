"""KServe's own clients against a gateway: run by an interpreter that has them, with the ports of HTTP and gRPC."""

from __future__ import annotations

import asyncio
import sys

import numpy as np
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, RESTConfig


async def main(port: int, grpc_port: int) -> None:
    """Ask over REST and gRPC; an assertion says what was not as it should be."""
    rows = np.array([[3], [10]], np.float32)
    url = f"http://127.0.0.1:{port}"
    rest = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await rest.is_server_live(url)
    assert await rest.is_server_ready(url)
    assert await rest.is_model_ready(url, "linear")
    for binary in (False, True):
        tensor = InferInput("x", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows, binary_data=binary)
        answer = await rest.infer(url, InferRequest("linear", [tensor]), model_name="linear")
        assert answer.outputs[0].as_numpy().ravel().tolist() == [5.0, 19.0], answer
    client = InferenceGRPCClient(f"127.0.0.1:{grpc_port}")
    assert await client.is_server_live()
    assert await client.is_server_ready()
    assert await client.is_model_ready("linear")
    for binary in (False, True):
        tensor = InferInput("x", list(rows.shape), "FP32")
        tensor.set_data_from_numpy(rows, binary_data=binary)
        answer = await client.infer(InferRequest("linear", [tensor]))
        assert answer.outputs[0].as_numpy().ravel().tolist() == [5.0, 19.0], answer
    await client.close()
    await rest.close()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), int(sys.argv[2])))
