"""ONNX operators, custom domain and patterns on their way into Relax."""
