"""The `vggquant` command, one module for each of its commands: they parse, call and report."""

from vggquant.cli.app import cli, main

__all__ = ["cli", "main"]
