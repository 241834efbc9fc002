"""Convert logits to predictions: calibrated probabilities, prediction sets and out-of-distribution flags."""
