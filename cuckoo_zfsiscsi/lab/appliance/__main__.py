"""The door to the storage appliance, see door.py."""

from __future__ import annotations

import sys

from cuckoo_zfsiscsi.lab.appliance.door import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
