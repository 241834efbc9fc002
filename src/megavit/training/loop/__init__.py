"""The training loop: its setup, steps, validation, monitoring and recovery from divergence."""
