"""Faster ways on a CPU than PyTorch's own layers take, with the same values and gradients."""
