"""Backends that compute predictions in a worker process: bundles with PyTorch, or exported models."""
