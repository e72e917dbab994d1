"""Definitions of the operators that become one workload each.

Every file holds one operator as tensor expressions: what it computes, plainly, with
float32 accumulation. The function it becomes is the workload's meaning, its default
kernel, and what TVM's design space transforms; own spaces replace it by name.
"""
