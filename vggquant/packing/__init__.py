"""File to file: `pack` and `unpack`, `info` and `verify`, and the choice of widths. Knows nothing of style."""
