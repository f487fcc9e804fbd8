"""The door for gRPC: the server, what it answers beside predictions, and the messages."""
