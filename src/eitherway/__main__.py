"""`python -m eitherway` and the `eitherway` command: the command line, imported only when it is called."""

import sys


def main() -> None:
    """Run the command line on `sys.argv` and end the process with its exit code."""
    from eitherway.cli.main import main as run

    sys.exit(run())


if __name__ == "__main__":
    main()
