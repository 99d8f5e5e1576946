"""Trains the classifier whose features judge generated images: ``python -m thermoebm.cli.classifier digits``."""

from collections.abc import Sequence

from thermoebm.cli.parser import Parser
from thermoebm.data import named
from thermoebm.metrics import classifier
from thermoebm.runtime.terminal import fail


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains the classifier, or loads it from the cache, and prints its accuracy."""
    parser = Parser(prog="python -m thermoebm.cli.classifier", description=__doc__)
    parser.add_argument("data", help="the data set, for instance digits")
    parser.add_argument("--root", help="where the data set is, if it is a file or folder")
    parser.add_argument("--download", action="store_true", help="download the data set if it is absent")
    parser.add_argument("--again", action="store_true", help="train it even if it is in the cache")
    options = parser.parse_args(arguments)
    try:
        root = {"root": options.root} if options.root else {}
        data = named(options.data, download=options.download, **root)
        _, accuracy = classifier.load(data, options.again)
    except ValueError as error:
        fail(str(error))
    print(f"classifier:{options.data} recognises {accuracy:.1%} of the held-out images.")


if __name__ == "__main__":
    main()
