"""Pseudo-labels: classes predicted for images without labels, which are then trained on beside the labeled ones."""
