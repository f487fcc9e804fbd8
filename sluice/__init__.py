"""Sluice, an inference gateway. In the repository its rooms lie beside this folder, installed they lie in it."""
