"""Building and measuring on real devices: build processes, the device process, meters."""
