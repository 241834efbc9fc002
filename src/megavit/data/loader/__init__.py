"""Batches of images, their order, and their loading."""
