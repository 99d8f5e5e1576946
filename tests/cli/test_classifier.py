"""The command that trains the classifier of a data set's labels."""

import subprocess
import sys

import pytest

from thermoebm.cli.classifier import main

pytestmark = pytest.mark.usefixtures("own_cache")


def test_the_classifier_command_trains_once_and_prints_its_accuracy(capsys):
    """First in a process of its own, as a user starts it; the second time nothing is trained."""
    command = [sys.executable, "-m", "thermoebm.cli.classifier", "digits"]
    first = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "Training the classifier of digits once" in first.stderr
    main(command[3:])
    said = capsys.readouterr()
    assert (said.out, said.err) == (first.stdout, "")
    accuracy = float(first.stdout.removeprefix("classifier:digits recognises ").partition("%")[0])
    assert accuracy > 97


def test_an_unknown_data_set_is_told(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["cats"])
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: There is no data set 'cats'; choose one of ")
    assert said.count("\n") == 1
