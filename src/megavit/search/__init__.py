"""Searching images by the embeddings of a trained model."""
