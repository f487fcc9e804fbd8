"""What Sluice tells about itself: Prometheus metrics and structured logs."""
