"""The log of a run, and the process that forwards it to an experiment tracker."""
