"""What Sluice tells about itself: Prometheus metrics, structured logs, and traces."""
