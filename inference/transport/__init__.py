"""What the gateway and a worker exchange: messages over sockets, and tensors in memory that both share."""
