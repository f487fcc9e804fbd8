"""Wire protocols as codecs over `InferenceRequest` and `InferenceResponse`; one module each."""
