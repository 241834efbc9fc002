"""Saving and loading checkpoints of training runs, with any number of processes."""
