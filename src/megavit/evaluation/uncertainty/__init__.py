"""Fit and evaluate calibration, prediction sets and out-of-distribution detection."""
