"""What to try next, and what was learnt. Needs no TVM and no device."""
