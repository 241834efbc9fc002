"""Logits as probabilities or scores, and their means over several models."""
