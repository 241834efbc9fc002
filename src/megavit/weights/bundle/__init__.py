"""The bundle: a trained model in one folder, with all that is needed to use it."""
