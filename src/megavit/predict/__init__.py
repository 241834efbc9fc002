"""Predict the labels and probabilities of images with bundles and exported models."""
