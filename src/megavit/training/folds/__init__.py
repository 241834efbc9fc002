"""Cross-validation: a run for each fold, and figures for all images together."""
