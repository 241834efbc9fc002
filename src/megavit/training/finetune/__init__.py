"""Fine-tuning of pretrained weights by progressively stronger methods."""
