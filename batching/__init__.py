"""Dynamic batching: the queue, the policy and the batcher. Knows rows and shape keys; not HTTP, not ONNX."""
