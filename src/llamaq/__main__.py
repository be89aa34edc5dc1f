"""``python -m llamaq`` is the command ``llamaq``."""

from __future__ import annotations

import sys

from llamaq.cli import main

if __name__ == "__main__":
    sys.exit(main())
