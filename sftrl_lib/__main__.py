"""`python -m sftrl_lib`: see `cli`."""

import sys

from sftrl_lib.cli import main

if __name__ == "__main__":
    sys.exit(main())
