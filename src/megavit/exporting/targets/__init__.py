"""Write models for other runtimes, with one module per runtime."""
