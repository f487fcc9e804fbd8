"""Formats of tensors: several forms of JSON, raw bytes, `.npy`, CSV and multipart. Dialects are made of these."""
