"""One module for each runtime that models are exported to."""
