"""The training loop, with what it is built from, validation, monitoring and recovery from divergence."""
