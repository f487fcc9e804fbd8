"""The door for gRPC: the server, what it answers beside predictions, and the messages."""

import os

# The library would stop and restart its threads around every fork, in the child too, for a child that goes on calling
# it. Ours becomes a worker at once, and about one in 25 died of it before it was one.
os.putenv("GRPC_ENABLE_FORK_SUPPORT", "0")
