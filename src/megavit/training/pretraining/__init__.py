"""Pretraining without labels: the views of an image, the loss of their embeddings, and the run."""
