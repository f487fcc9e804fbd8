"""Large bodies are read in processes of their own: parsing JSON or CSV holds the interpreter lock all the time."""
