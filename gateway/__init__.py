"""The gateway: servers and pages, the data plane, dialects, settings, telemetry and the command line."""
