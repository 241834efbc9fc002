"""Predictions from bundles and exported models: images in, labels with probabilities out."""
