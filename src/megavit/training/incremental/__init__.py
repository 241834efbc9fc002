"""Adding classes to a finished bundle, and removing them, while its features stay as they are."""
