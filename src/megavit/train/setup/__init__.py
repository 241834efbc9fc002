"""Resolution of the recipe: every choice that it leaves to the run is made here, once."""
