"""Labeled images: from whatever a person has on disk to uint8 tensors of one size."""
