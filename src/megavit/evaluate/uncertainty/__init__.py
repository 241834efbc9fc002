"""Calibration, prediction sets and out-of-distribution detection: their fit and their evaluation."""
