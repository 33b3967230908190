"""Entry point of the zfsiscsi command."""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line and return its exit code."""
    try:
        from cuckoo_zfsiscsi.cli import run
    except ModuleNotFoundError as error:
        sys.stderr.write(
            f'error: {error.name} is not installed\nfix: pip install "cuckoo-zfsiscsi[server]"\n'
        )
        return 1
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
