"""What fits into a time budget: the speed of this machine, and the largest model that gets enough steps."""
