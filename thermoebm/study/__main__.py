"""``python -m thermoebm.study``: see :mod:`thermoebm.cli.study`."""

import sys

from thermoebm.cli.study import main

if __name__ == "__main__":
    sys.exit(main())
