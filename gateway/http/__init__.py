"""Two ways for a prediction to reach the data plane: uvicorn's protocol (the lane) and plain ASGI."""
