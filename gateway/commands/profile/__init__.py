"""`sluice profile`: measures a model, and shows, draws, explains or writes what follows for serving it."""
