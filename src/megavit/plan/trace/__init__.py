"""Tracing a training step on the meta device to predict its memory use."""
