"""The tier that several gateways share: Redis, alone or as a cluster, used so that its failures cost little."""
