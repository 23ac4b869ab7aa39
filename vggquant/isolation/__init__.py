"""Readers that need a native library, in a child process with limits: what both sides say, and either side."""
