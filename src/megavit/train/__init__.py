"""Training: from labeled images to a bundle that can be used."""
