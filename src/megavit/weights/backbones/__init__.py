"""Backbones that training starts from: finding them on this machine, and fetching them."""
