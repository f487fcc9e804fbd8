"""The door for gRPC: its server over HTTP/2, what it answers beside predictions, and the messages."""
