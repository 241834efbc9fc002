"""What a training run will take of a cluster: parameters, memory, traffic, time, and which layouts fit."""
