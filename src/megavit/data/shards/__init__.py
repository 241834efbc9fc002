"""WebDataset shards: images in tar files, of which an index says where each one lies."""
