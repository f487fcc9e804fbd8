"""The scenarios: a machine, an objective, and who comes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from benchmarks.simulation.arrivals import Request, Shape, Stream, day, on_off, ramp, requests, steady
from benchmarks.simulation.machine import Curve, Machine, Noise, Slowdown

MLP = Machine(Curve(0.00053, 0.000112), max_rows=64)
"""The multilayer perceptron of the benchmarks: 0.64 ms for a row, 7.7 ms for 64."""

GPU = Machine(Curve(0.005, 0.00005), max_rows=128)
"""Large fixed costs, hardly any for a row: what accelerators look like."""

IMAGE = Machine(Curve(0.005, 0.004), max_rows=16)
"""A convolutional network on a processor: batching gains little."""

NOISY = Noise(sigma=0.15, outlier_share=0.02, outlier_factor=4.0)
THROTTLED = Noise(slowdowns=(Slowdown(1.0, 3.0, 2.0), Slowdown(4.0, 5.0, 2.0)))
MIXED = MappingProxyType({1: 0.5, 2: 0.2, 4: 0.15, 8: 0.1, 16: 0.05})

OVERLOAD_S = 3.0
CALM_S = 6.0
DAY_S = 24.0


class Scenario(msgspec.Struct, frozen=True):
    """One trace for every policy. `bursty` are those in which a fixed setting is to be clearly behind."""

    name: str
    machine: Machine
    objective_s: float
    duration_s: float
    streams: tuple[Stream, ...]
    bursty: bool = False

    def requests(self, seed: int) -> list[Request]:
        return requests(self.streams, self.machine.rows_per_s(), self.duration_s, seed)


def _of(
    name: str, machine: Machine, objective_s: float, duration_s: float, shape: Shape, *, bursty: bool = False
) -> Scenario:
    return Scenario(name, machine, objective_s, duration_s, (Stream(shape),), bursty)


def _with(machine: Machine, noise: Noise = MLP.noise, workers: int = 1) -> Machine:
    return msgspec.structs.replace(machine, noise=noise, workers=workers)


def _scenarios(day_seed: int = 1) -> Sequence[Scenario]:
    four = _with(MLP, workers=4)
    return (
        _of("mlp 0.5", MLP, 0.05, CALM_S, steady(0.5)),
        _of("mlp 0.9", MLP, 0.05, CALM_S, steady(0.9)),
        _of("mlp 1.2", MLP, 0.05, CALM_S, steady(1.2)),
        _of("mlp 2.0", MLP, 0.05, OVERLOAD_S, steady(2.0)),
        _of("mlp bursts 0.7", MLP, 0.05, CALM_S, on_off(0.7), bursty=True),
        _of("mlp bursts 1.0", MLP, 0.05, CALM_S, on_off(1.0), bursty=True),
        _of("mlp ramp", MLP, 0.05, CALM_S, ramp(0.2, 2.0, CALM_S)),
        _of("mlp day", MLP, 0.05, DAY_S, day(DAY_S, day_seed), bursty=True),
        _of("mlp x4 0.9", four, 0.05, 2.0, steady(0.9)),
        _of("mlp x4 2.0", four, 0.05, 1.5, steady(2.0)),
        _of("mlp x4 bursts 1.0", four, 0.05, 2.5, on_off(1.0), bursty=True),
        _of("gpu 0.5", GPU, 0.05, 4.0, steady(0.5)),
        _of("gpu 0.9", GPU, 0.05, 4.0, steady(0.9)),
        _of("gpu 2.0", GPU, 0.05, 2.0, steady(2.0)),
        _of("gpu bursts 1.0", GPU, 0.05, 4.0, on_off(1.0), bursty=True),
        _of("gpu tight 0.9", GPU, 0.02, 4.0, steady(0.9)),
        _of("image 0.5", IMAGE, 0.2, 60.0, steady(0.5)),
        _of("image 0.9", IMAGE, 0.2, 60.0, steady(0.9)),
        _of("image 2.0", IMAGE, 0.2, 60.0, steady(2.0)),
        _of("image bursts 1.0", IMAGE, 0.2, 60.0, on_off(1.0, on_s=0.4), bursty=True),
        _of("mlp noisy 0.9", _with(MLP, NOISY), 0.05, CALM_S, steady(0.9)),
        _of("mlp noisy 2.0", _with(MLP, NOISY), 0.05, OVERLOAD_S, steady(2.0)),
        _of("mlp throttled 0.8", _with(MLP, THROTTLED), 0.05, CALM_S, steady(0.8)),
        Scenario("mlp mixed 0.9", MLP, 0.05, CALM_S, (Stream(steady(0.9), MIXED),)),
        Scenario("mlp mixed 1.2", MLP, 0.05, CALM_S, (Stream(steady(1.2), MIXED),)),
        Scenario(
            "mlp priorities",
            MLP,
            0.05,
            CALM_S,
            (Stream(steady(0.4), priority=1, client="urgent"), Stream(steady(1.0), priority=5, client="bulk")),
        ),
        Scenario(
            "mlp flood",
            MLP,
            0.05,
            CALM_S,
            (Stream(steady(0.2), client="polite"), Stream(steady(1.6), client="flood")),
        ),
    )


SCENARIOS: Mapping[str, Scenario] = MappingProxyType({scenario.name: scenario for scenario in _scenarios()})
