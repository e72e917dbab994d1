"""What a candidate will probably cost: latency and power models. Needs no TVM and no device."""
