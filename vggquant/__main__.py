"""`python -m vggquant`: the command line."""

from vggquant.cli import main

main()
