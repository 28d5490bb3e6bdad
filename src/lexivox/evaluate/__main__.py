"""``python -m lexivox.evaluate`` is ``lexivox evaluate``."""

import sys

from lexivox.cli import main

if __name__ == "__main__":
    sys.exit(main(["evaluate", *sys.argv[1:]]))
