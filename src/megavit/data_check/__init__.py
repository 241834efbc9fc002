"""Check a data set for duplicates, leaks between splits, unreadable files, imbalance and label errors."""
