"""The command `fgan`, also `python -m fgan`."""

from fgan.cli import streams
from fgan.devices import interrupts


def main() -> None:
    """Run the command line; exits with its code."""
    streams.settle()
    interrupts.attend()  # before the imports of what follows, which take a while
    from fgan.cli.main import main

    main()


if __name__ == "__main__":
    main()
