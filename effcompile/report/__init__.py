"""Default against tuned: collected from a run folder, shown as table, page or JSON."""
