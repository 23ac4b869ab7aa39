"""`python -m vggquant`: the command line."""

from vggquant.cli.app import main

main()
