"""The model's architecture in plain PyTorch: a second, independent reading of the specification."""
