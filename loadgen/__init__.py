"""`sluice load`: an open-loop load generator, which sends when requests are due and not when the server has time."""
