"""Label images in a browser, with a model that learns while one works."""
