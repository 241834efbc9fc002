"""Read labeled images from folders, tables and shards, and split, decode and batch them."""
