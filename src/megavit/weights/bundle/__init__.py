"""The bundle: a folder with a trained model and everything needed to use it."""
