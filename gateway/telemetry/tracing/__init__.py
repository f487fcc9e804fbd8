"""Tracing: spans of calls and batches for an OpenTelemetry collector. Nothing here is imported while it is off.

The event loop only writes down times and ids (`tracer`); a thread makes spans of them and sends them (`otlp`).
"""
