"""Benchmarks: ours and the strongest peers on the same work, measured in one run."""
