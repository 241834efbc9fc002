"""Answers from a bundle: images in, labels and probabilities out."""
