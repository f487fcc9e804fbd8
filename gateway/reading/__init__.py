"""Large bodies are read in processes of their own: what reads JSON or CSV keeps the interpreter for all its length."""
