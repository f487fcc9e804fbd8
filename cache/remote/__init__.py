"""The tier that several gateways share: Redis, alone or as a cluster, and how little it may cost when it fails."""
