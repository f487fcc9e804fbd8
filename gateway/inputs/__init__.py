"""Inputs that are not tensors yet: texts and pictures."""
