"""What makes the gateway a process: its servers, the ports that they listen on, and signals."""
