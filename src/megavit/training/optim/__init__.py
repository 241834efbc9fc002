"""Optimizers, learning-rate schedules, losses, and fine-tuning methods."""
