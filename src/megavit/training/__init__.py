"""Training, from labeled images to a model bundle."""
