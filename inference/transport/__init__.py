"""What goes between the gateway and a worker: messages over a socket, and tensors in memory that both share."""
