"""Distributed training with DDP, FSDP2, tensor parallelism and their combinations."""
