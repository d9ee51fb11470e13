"""python -m pagdeploy."""

from pagdeploy.cli import main

main()
