"""Order, load and batch images."""
