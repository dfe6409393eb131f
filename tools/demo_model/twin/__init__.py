"""The model's architecture in plain PyTorch: an independent second implementation of the specification."""
