"""Check a data set: duplicates, leaks between splits, unreadable files, imbalance and label errors."""
