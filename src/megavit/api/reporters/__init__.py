"""Show the progress of a training or an evaluation: on a terminal, in a notebook, or not at all."""
