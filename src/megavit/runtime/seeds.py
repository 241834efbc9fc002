"""Stateless random seeds: all random numbers are derived from the run's seed and position."""

import hashlib

import torch


def mix(*numbers: int) -> int:
    """Return one seed in [0, 2^63) from several numbers; the same on every machine and version."""
    text = ",".join(str(number) for number in numbers).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big") >> 1


def seed_all(*numbers: int) -> None:
    """Seed torch on every device from `mix(*numbers)`."""
    torch.manual_seed(mix(*numbers))


def generator(*numbers: int) -> torch.Generator:
    """Return a CPU generator seeded from `mix(*numbers)`."""
    return torch.Generator().manual_seed(mix(*numbers))
