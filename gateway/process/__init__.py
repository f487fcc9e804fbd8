"""What makes a gateway a process: its servers, the ports that they listen on, and the signals that end it."""
