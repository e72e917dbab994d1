"""NVIDIA machine code, decoded as far as counting work needs it: no disassembler, no device."""
