"""The reference for instrumentation: Sluice that counts nothing, times nothing, logs no call and sends no times."""

from __future__ import annotations

from sluice.gateway.cli import main
from sluice.gateway.prediction import observer
from sluice.gateway.telemetry import call_log, loop_lag, model_metrics


def _nothing(*_: object, **__: object) -> None:
    pass


if __name__ == "__main__":
    for name in ("request_ended", "answered", "repeated", "promise_ended", "batch_ended", "padded"):
        setattr(model_metrics.ModelMetrics, name, _nothing)
    for name in ("answered", "ended"):
        setattr(call_log.CallLog, name, _nothing)
    observer.__dict__["server_timing"] = _nothing
    setattr(loop_lag.LoopLag, "_look", _nothing)  # noqa: B010
    main()
