"""Shards: tar files of images with an index."""
