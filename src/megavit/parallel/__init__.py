"""One model on many processes, by PyTorch's own means; the model's files know nothing of it."""
