"""The worker processes, from outside: started, given batches, watched, and replaced when they are lost."""
