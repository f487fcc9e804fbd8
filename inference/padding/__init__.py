"""Padding of inputs of varying length: what `[padding]` means for a model, how inputs are padded and outputs cut."""
