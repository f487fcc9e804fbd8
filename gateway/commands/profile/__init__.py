"""`sluice profile`: measures a model, shows its plan with reasons, draws it, explains it, and writes it down."""
