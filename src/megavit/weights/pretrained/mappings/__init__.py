"""Key mappings between MegaVit and other libraries' Vision Transformers, with one module per library.

Each module defines `CheckpointFormat`s, whose `rules` are an invertible table of tensor names: see `key_mapping`.
"""
