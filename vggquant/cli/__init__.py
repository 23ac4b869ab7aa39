"""The `vggquant` command, one module for each of its commands.

A command's module declares its arguments, calls one function of the package and prints what that function returns.
`app` collects the commands and turns errors into exit codes. All else is left to the other packages.
"""

from vggquant.cli.app import cli, main

__all__ = ["cli", "main"]
