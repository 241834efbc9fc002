"""Worker processes: their protocol, batching, supervision and reloading."""
