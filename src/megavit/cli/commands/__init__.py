"""One module per command of `megavit`."""
