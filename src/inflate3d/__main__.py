"""``python -m inflate3d`` is the command ``inflate3d``."""

import sys

from inflate3d.cli import main

if __name__ == "__main__":
    sys.exit(main())
