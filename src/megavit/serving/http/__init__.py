"""The HTTP side of the server: routes, middleware, and limits and timeouts of connections."""
