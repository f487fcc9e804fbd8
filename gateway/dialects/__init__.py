"""Wire protocols as codecs over `InferenceRequest` and `InferenceResponse`: a folder for each, and what they share."""
