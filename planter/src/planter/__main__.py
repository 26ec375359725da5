"""``python -m planter``: the command line."""

from planter.cli.app import main

if __name__ == "__main__":
    main()
