"""Metrics for each kind of target with 95% intervals, calibration error and significance tests."""
