"""Converters of ONNX operators that the stock importer lacks or gets wrong."""
