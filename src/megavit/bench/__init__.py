"""Benchmark megavit against other installed libraries, with the same sizes, threads and precision."""
