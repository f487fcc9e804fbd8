"""The worker process, from inside: it loads one model and runs one batch after another."""
