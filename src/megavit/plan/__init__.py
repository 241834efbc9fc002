"""Estimates of memory, communication and time of a training run on a cluster, and of the layouts that fit."""
