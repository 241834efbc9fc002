"""Reads labeled images from folders, tables and shards, and splits, decodes and batches them."""
