"""The README and the example script beside an exported model."""
