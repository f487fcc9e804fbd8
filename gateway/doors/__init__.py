"""Listening ports: each accepts connections, and is opened anew where it has stopped to."""
