"""Final evaluation of a run, its bundle, and the report with figures."""
