"""Listening ports: each accepts connections, and is opened anew once it has stopped accepting them."""
