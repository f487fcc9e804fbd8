"""Tracing: spans of calls and batches for an OpenTelemetry collector.

The event loop only records times and ids (`tracer`); a thread makes spans of them and sends them (`otlp`). `otlp` is
only imported where tracing is on.
"""
