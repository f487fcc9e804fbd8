"""Load tests with Locust: see README.md. `locustfile`, `http_user` and `watch` alone know Locust; the rest is pure."""
