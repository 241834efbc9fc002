"""What computes predictions in a worker process: a bundle with PyTorch, or an exported model."""
