"""Entry point of the zfsiscsi command."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        from cuckoo_zfsiscsi.cli import run

        return run(sys.argv[1:])  # imports what the command needs
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "cuckoo_zfsiscsi":
            raise  # a mistake in here, which no package helps
        sys.stderr.write(
            f'error: {error.name} is not installed\nfix: pip install "cuckoo-zfsiscsi[server]"\n'
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
