"""Pretrained weights: loading other libraries' checkpoints, and saving models for other libraries."""
