"""What networks are, without torch: the names, shapes and kinds of their tensors; the numbers are left to `files`."""
