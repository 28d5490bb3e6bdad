"""``python -m lexivox`` is the command line too; launchers of many processes start modules."""

import sys

from lexivox.cli import main

if __name__ == "__main__":
    sys.exit(main())
