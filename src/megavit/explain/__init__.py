"""Which patches of an image an answer comes from: maps, overlays, and the checks that the maps must pass."""
