"""Models for other runtimes, that are written only if they give the answers that PyTorch gives."""
