"""The rivals: other policies, each written from its published description."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from types import MappingProxyType

from benchmarks.simulation.policy import PolicyFactory
from benchmarks.simulation.rivals.aimd import Aimd
from benchmarks.simulation.rivals.deferred import Deferred
from benchmarks.simulation.rivals.early_drop import EarlyDrop
from benchmarks.simulation.rivals.regression import Regression
from benchmarks.simulation.rivals.triton import Triton
from benchmarks.simulation.rivals.window import Window

FIXED: Mapping[str, PolicyFactory] = MappingProxyType(
    {
        "window 8/1ms": partial(Window, max_batch_rows=8, timeout_s=0.001),
        "window 32/5ms": partial(Window, max_batch_rows=32, timeout_s=0.005),
        "window 64/10ms": partial(Window, max_batch_rows=64, timeout_s=0.010),
        "window 64/0": partial(Window, max_batch_rows=64, timeout_s=0.0),
        "window 64/2ms/4": partial(Window, max_batch_rows=64, timeout_s=0.002, enqueued_batches=4),
        "triton 64/0": partial(Triton, max_batch_rows=64, delay_s=0.0),
        "triton 128/5ms": partial(Triton, max_batch_rows=128, delay_s=0.005),
    }
)
"""Fixed settings, chosen before the traffic is known: rows and delay; `/4` is a bound on the batches that wait, which
somebody has tuned to the *mlp* and its objective, and which is kept for the other models as the rest is."""

ADAPTIVE: Mapping[str, PolicyFactory] = MappingProxyType(
    {
        "AIMD": Aimd,
        "regression": Regression,
        "early drop": EarlyDrop,
        "deferred": Deferred,
    }
)
"""Policies that adapt to the traffic or know the model's profile."""
