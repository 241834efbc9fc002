"""Training: from labelled images to a bundle that can be used."""
