"""Key mappings between MegaVit and other libraries, with one or more `CheckpointFormat`s per module."""
