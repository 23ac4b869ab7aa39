"""Numbers to bytes and back: codebooks by k-means, codes, and how codes are laid down. Knows no names and no files."""
