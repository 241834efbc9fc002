"""The HTTP side of the server: routes, middleware, limits and timeouts of connections."""
