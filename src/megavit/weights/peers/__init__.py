"""Other libraries' Vision Transformers: how each names its tensors, a file a layout."""
