"""Speed and memory on this machine, ours beside the peers that are installed: the same sizes, threads and precision."""
