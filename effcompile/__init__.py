"""Compiler-based kernel autotuner: compiled modules that use less energy at low latency."""

__version__ = "0.1.0"
