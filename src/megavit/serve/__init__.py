"""The server: models over HTTP, each in a process of its own that may die without taking the server with it.

A front process (`run`, `app`, `guard`) counts, limits, times, routes and answers; it imports no torch and touches no
image. For each model it keeps a worker process (`worker`, `backend`), which decodes, batches and answers.
"""
