"""Optimizers, their schedule, losses, and what fine-tuning trains of a model."""
