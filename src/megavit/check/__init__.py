"""What is wrong with a set of labeled images: copies, leaks, broken files, uneven classes, labels that are wrong."""
