"""Explain predictions by relevance maps of the patches, drawn over the image."""
