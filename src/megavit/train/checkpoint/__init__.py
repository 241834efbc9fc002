"""Checkpoints: saving the whole state of a run, and restoring it with any number of processes."""
