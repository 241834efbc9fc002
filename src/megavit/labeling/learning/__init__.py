"""Learning while labels arrive: features, a linear classifier, the order of the images, and an estimate."""
