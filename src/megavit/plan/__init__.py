"""Estimating what a training run takes on a cluster: memory, communication, time, and which layouts fit."""
