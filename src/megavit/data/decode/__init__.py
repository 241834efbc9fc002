"""Image files decoded to uint8, with limits on what they may cost."""
