"""The end of a run: evaluation of its best weights, the bundle, and the report with its figures."""
