"""SageMaker's and Vertex AI's contract for containers."""
