"""Conversion between megavit's preprocessing and other libraries' image processors."""
