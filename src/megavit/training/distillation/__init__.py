"""Imitation of a larger model: loading the teacher, and computing its outputs for the training images once."""
