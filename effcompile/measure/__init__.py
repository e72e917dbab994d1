"""Building, checking and measuring candidates: processes, clocks and meters."""
