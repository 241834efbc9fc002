"""Linear probes and nearest neighbors on embeddings, selected by cross-validation."""
