"""Export bundles to other runtimes, verified against PyTorch on real images."""
