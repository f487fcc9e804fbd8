"""What serves: the versions in service, the stages of a request in one of them, and how versions come and go."""
