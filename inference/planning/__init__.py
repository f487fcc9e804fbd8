"""How a version is served on this machine: what is measured when it loads, and the plan that is made of it."""
