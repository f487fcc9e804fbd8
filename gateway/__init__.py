"""The door: settings, the FastAPI app, the data plane, dialects, telemetry and the command line."""
