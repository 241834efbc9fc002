"""The HTTP server: a front process without torch, and one worker process per model that may crash without it."""
