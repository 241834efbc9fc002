"""Functions that do the whole of a command from Python, such as `megavit.train`."""
