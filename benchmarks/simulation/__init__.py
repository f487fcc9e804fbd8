"""A discrete-event simulation in virtual time: the real batcher beside other policies, on the same arrivals."""
