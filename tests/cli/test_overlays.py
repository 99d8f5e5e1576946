"""Overlays: a run is named after them, and has what they say."""

import pytest
import yaml

from tests import ROOT
from thermoebm.cli.overlays import variant

CONFIGS = ROOT / "configs"
MLE, TI = CONFIGS / "mle.yaml", CONFIGS / "ti.yaml"
BASE = CONFIGS / "digits.yaml"


def composed(*files, **objective):
    """The model's objective and prior sampler of these files, later ones on top; then the objective's fields."""
    model: dict = {}
    for file in files:
        given = yaml.safe_load(file.read_text()).get("model", {}).get("init_args", {})
        for part in ("objective", "prior_sampler"):
            model[part] = merged(model.get(part, {}), given.get(part, {}))
    own = objective.pop("class_path", model["objective"]["class_path"])
    model["objective"] = {"class_path": own, "init_args": model["objective"]["init_args"] | objective}
    return {"model": {"init_args": model}}


def merged(below, above):
    """An object's fields on top of those of another, if both are of one class."""
    if above and above["class_path"] != below.get("class_path"):
        below = {}
    return {**below, **above, "init_args": below.get("init_args", {}) | above.get("init_args", {})}


def last(*files):
    """The field ``variant`` after these files."""
    return ([None] + [v for f in files if (v := yaml.safe_load(f.read_text()).get("variant"))])[-1]


def estimator(name):
    return CONFIGS / "estimators" / f"{name}.yaml"


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([BASE], None),
        ([BASE, MLE], "mle"),
        ([BASE, TI], "ti"),
        *([(BASE, TI, estimator(e)), f"ti-{e}"] for e in ("contrastive", "detached", "endpoints", "pathwise")),
        ([BASE, estimator("detached")], "detached"),
    ],
)
def test_every_overlay_belongs_to_the_name(files, expected):
    assert variant(files, last(*files), composed(*files)) == expected


def test_what_is_left_of_an_overlay_stays_in_the_name():
    """The published code's readings with maximum likelihood are no longer its objective, but still its readings."""
    files = [BASE, CONFIGS / "report_code.yaml", MLE]
    config = yaml.safe_load(files[1].read_text())
    config["model"]["init_args"]["objective"] = composed(BASE, MLE)["model"]["init_args"]["objective"]
    assert variant(files, "mle", config) == "report_code-mle"


def test_an_overlay_that_a_later_file_undoes_is_refused_with_the_order():
    for overlay in (MLE, TI, estimator("pathwise")):
        files = [overlay, BASE]
        with pytest.raises(ValueError, match=f"digits.yaml sets .* undoes {overlay}: .* -c {BASE} -c {overlay}"):
            variant(files, last(*files), composed(*files))


@pytest.mark.parametrize(
    "files", [(BASE, TI, MLE), (BASE, MLE, TI), (BASE, estimator("pathwise"), estimator("detached"))]
)
def test_of_two_overlays_that_exclude_each_other_one_is_left_out(files):
    with pytest.raises(ValueError, match=f"{files[2]} undoes {files[1]}.* leave one of them out"):
        variant(files, last(*files), composed(*files))


def test_a_name_may_not_claim_what_the_command_line_undoes():
    """Numbers may change, and a name of one's own claims nothing."""
    other = composed(BASE, TI, estimator="detached")
    with pytest.raises(ValueError, match=r"line undoes .*ti\.yaml.*estimator is contrastive.* --variant"):
        variant([BASE, TI], "ti", other)
    assert variant([BASE, TI], "mine", other) == "mine"
    assert variant([BASE, TI], "ti", composed(BASE, TI, schedule={"power": 3.0, "reading": "intervals"})) == "ti"
    with pytest.raises(ValueError, match=r"command line undoes .*mle\.yaml"):
        variant([BASE, MLE], "mle", composed(BASE, TI))
    short = composed(BASE, MLE, class_path="MaximumLikelihood")
    assert variant([BASE, MLE], "mle", short) == "mle"  # another path of the same class


def test_a_config_of_a_run_is_no_overlay(tmp_path):
    """It has a name; its words may be overridden, and its variant stays."""
    saved = tmp_path / "config.yaml"
    saved.write_text(yaml.safe_dump({"name": "digits", "variant": "ti", **composed(BASE, TI)}))
    assert variant([saved], "ti", composed(BASE, TI, estimator="detached")) == "ti"


def test_an_overlay_given_twice_is_named_once():
    assert variant([BASE, TI, TI], "ti", composed(BASE, TI)) == "ti"


def test_a_name_of_ones_own_claims_no_overlay():
    """Not even where one of them undoes another."""
    assert variant([BASE, TI, MLE], "mine", composed(BASE, TI, MLE)) == "mine"


def test_a_file_that_says_the_same_has_undone_nothing(tmp_path):
    """The command line has, though a file in between sets the same fields; of files that have, the last one is told."""
    for name in ("same", "first", "last"):
        given = composed(BASE, TI) if name == "same" else composed(BASE)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, **given}))
    with pytest.raises(ValueError, match=r"the command line undoes .*ti\.yaml"):
        variant([BASE, TI, tmp_path / "same.yaml"], "ti", composed(BASE, TI, estimator="detached"))
    with pytest.raises(ValueError, match=r"last\.yaml sets .* undoes .*ti\.yaml"):
        variant([TI, tmp_path / "first.yaml", tmp_path / "last.yaml"], "ti", composed(BASE))


def test_a_file_with_another_class_has_undone_only_what_belongs_to_it(tmp_path):
    """The estimator belongs to the objective, not to the data."""
    overlay, later = tmp_path / "overlay.yaml", tmp_path / "later.yaml"
    overlay.write_text(
        "variant: v\nmodel: {estimator: detached}\ndata: {class_path: A}",
    )
    later.write_text(yaml.safe_dump({"name": "n", "data": {"class_path": "B"}}))
    with pytest.raises(ValueError, match=r"the command line undoes .* there model\.estimator is detached"):
        variant([overlay, later], "v", {"model": {"estimator": "pathwise"}, "data": {"class_path": "B"}})
