"""Metrics of each kind of target with their 95% intervals, calibration error and significance tests."""
