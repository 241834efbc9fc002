"""Pretrained weights: read from the files of other libraries, and written for them."""
