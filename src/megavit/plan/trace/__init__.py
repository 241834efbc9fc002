"""Tracing a training step with fake tensors, to validate the estimates of memory and communication."""
