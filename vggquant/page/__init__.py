"""Networks that paint as a page that any browser opens; writing the file is left to `cli`."""
