"""Weights at rest: the bundle, and how a model's tensors go in and out of files."""
