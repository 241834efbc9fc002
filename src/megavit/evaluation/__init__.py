"""Evaluate a model: metrics with intervals, comparisons, subgroups, robustness and uncertainty."""
