"""``python -m greeter NAME [--excited]``."""

import argparse

from greeter import greet


def main() -> None:
    """Print a greeting."""
    parser = argparse.ArgumentParser(prog="greeter", description="Greet somebody.")
    parser.add_argument("name")
    parser.add_argument("--excited", action="store_true")
    arguments = parser.parse_args()
    print(greet(arguments.name, excited=arguments.excited))


main()
