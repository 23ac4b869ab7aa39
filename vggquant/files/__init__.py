"""Bytes to files and back: our packed file, and the weights files of other programs. Knows nothing of torch modules."""
