"""Engines that run a model inside a worker process. Never imported by the gateway."""
