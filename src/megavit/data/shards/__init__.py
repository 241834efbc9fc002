"""Read and write shards, which are tar files of images with an index."""
