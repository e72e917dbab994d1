"""What can be computed, and in which ways: workloads, candidates, design spaces.

This package file offers nothing: import the plain modules (``workload``, ``task``,
``candidate``, ``space``, ``target``, ``stats``, ``errors``) by name; they need no TVM.
The others (``generic``, ``softmax``, ...) load TVM when imported.
"""
