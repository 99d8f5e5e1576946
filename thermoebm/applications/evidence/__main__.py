"""``python -m thermoebm.applications.evidence``: see :mod:`thermoebm.cli.evidence`."""

from thermoebm.cli.evidence import main
from thermoebm.runtime import signals
from thermoebm.runtime.terminal import outliving_readers

if __name__ == "__main__":
    with signals.listening(), outliving_readers():
        main()
