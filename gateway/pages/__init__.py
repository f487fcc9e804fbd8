"""The pages that FastAPI serves: one file for each protocol or concern. Predictions never come here."""
