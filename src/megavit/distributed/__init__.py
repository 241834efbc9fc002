"""Training a model with several processes: DDP, FSDP2, tensor parallelism and their mixtures."""
