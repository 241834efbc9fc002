"""What is wrong with a set of labelled images: copies, leaks, broken files, uneven classes, labels that are wrong."""
