"""ONNX Runtime as an engine: sessions, which only worker processes import, and what is read from ONNX files."""
