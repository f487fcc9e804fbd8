"""All that knows of ONNX: the engine's session, which worker processes alone import, and what a file says of itself."""
