"""Settings as plain frozen dataclasses. No torch in this package, so that the command line starts fast."""
