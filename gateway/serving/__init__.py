"""What serves: the versions in service, the stages of a request through one, and how they come and go."""
