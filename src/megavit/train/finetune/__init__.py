"""Fine-tuning of pretrained weights: method after method, as long as each is significantly better."""
