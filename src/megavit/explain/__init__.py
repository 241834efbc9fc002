"""Explain predictions by relevance maps of the patches, and draw them over the image."""
