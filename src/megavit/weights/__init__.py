"""Bundles and pretrained checkpoints: reading and writing model weights."""
