"""How tensors are written: JSON in its forms, raw bytes, `.npy`, CSV, multipart. Dialects are made of these."""
