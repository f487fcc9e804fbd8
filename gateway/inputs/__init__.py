"""Makes tensors out of texts and pictures."""
