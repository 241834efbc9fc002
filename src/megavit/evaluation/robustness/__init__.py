"""Common image corruptions, and the metrics of a model under them."""
