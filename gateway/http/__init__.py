"""The two lanes, by which a prediction reaches the data plane: an HTTP protocol for uvicorn, and plain ASGI."""
