"""The parser of a run's config."""

import pytest

from thermoebm.cli.config import ConfigParser, whole_numbers_first


@pytest.mark.parametrize("name", ["trainer.limit_train_batches", "trainer.overfit_batches"])
def test_one_is_a_batch_and_one_point_nought_is_all_of_them(name):
    """Where the type has float first, as Python may have met it; other fields stay what they are."""
    parser = ConfigParser()
    for field in (name, "trainer.other"):
        parser.add_argument(f"--{field}", type=float | int | None)
    whole_numbers_first(parser)
    for text, value in (("1", 1), ("1.0", 1.0)):
        parsed = parser.parse_args([f"--{name}={text}", "--trainer.other=1"])
        assert (parsed[name], type(parsed[name])) == (value, type(value))
        assert type(parsed["trainer.other"]) is float
