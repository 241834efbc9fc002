"""Serve models over HTTP: a server process without PyTorch, and one worker process per model."""
