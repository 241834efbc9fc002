"""Create the README and the example script of an exported model."""
