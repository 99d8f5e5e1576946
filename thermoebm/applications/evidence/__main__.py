"""``python -m thermoebm.applications.evidence``: see :mod:`thermoebm.cli.evidence`."""

from thermoebm.cli.evidence import main

if __name__ == "__main__":
    main()
