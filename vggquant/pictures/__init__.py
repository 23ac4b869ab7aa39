"""Pictures: files to tensors and back, colours, and pictures that are generated. Knows nothing of weights."""
