"""Inputs of varying length: what `[padding]` means for a model, and how its inputs are filled up and cut back."""
