"""Define settings as frozen dataclasses, without importing torch, so that the command line starts fast."""
