"""Features by name: their caches, what they are called, and the faults of networks and files."""

import importlib
import sys

import pytest
import torch
from torch import nn

from tests.extractors import Linear
from thermoebm.data import Digits, named
from thermoebm.metrics import classifier, features
from thermoebm.metrics.features import Extractor, extractor


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("THERMOEBM_CACHE", str(tmp_path / "cache"))


def pictures(count=20):
    return torch.randint(0, 255, (count, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


# Extractors


def test_any_module_by_class_path_is_the_same_each_time():
    first = extractor("tests.extractors.Linear")
    torch.rand(1)
    second = extractor("tests.extractors.Linear")
    assert torch.equal(first(pictures()), second(pictures()))
    assert first(pictures()).shape == (20, 5)


def test_images_are_rounded_to_eight_bits_whether_real_or_generated():
    network = Extractor("flat", nn.Flatten())
    assert torch.equal(network(pictures()), network(pictures().float() / 127.5 - 1 + 0.49 / 127.5))
    assert torch.equal(network(torch.full((1, 1, 8, 8), 1.7)), torch.ones(1, 64))


def test_features_do_not_depend_on_the_batch_size():
    a, b = Extractor("flat", Linear(), batch_size=7), Extractor("flat", Linear())
    b.network.load_state_dict(a.network.state_dict())
    torch.testing.assert_close(a(pictures()), b(pictures()))


def test_pixels_are_the_means_of_blocks():
    """By hand for 16x16 and three channels; an 8x8 image is itself."""
    images = torch.randint(0, 255, (2, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    blocks = (images.double() / 127.5 - 1).unfold(2, 2, 2).unfold(3, 2, 2).mean((-1, -2)).flatten(1)
    torch.testing.assert_close(extractor("pixels")(images).double(), blocks, rtol=0, atol=1e-6)
    assert torch.equal(extractor("pixels")(pictures()), pictures().flatten(1).float() / 127.5 - 1)
    assert extractor("pixels").distance_names.frechet == "FD[pixels]"


def test_a_distance_on_other_features_than_inceptions_never_carries_its_names():
    assert extractor("tests.extractors.Linear").distance_names.frechet == "FD[tests.extractors.Linear]"
    assert Extractor("classifier:digits", Linear()).distance_names[:3] == (
        "FD[classifier:digits]",
        "KD[classifier:digits]",
        "KD-rbf[classifier:digits]",
    )
    assert Extractor("inception", Linear()).distance_names[:2] == ("FID", "KID")


def test_faults_of_a_network_are_told(monkeypatch):
    bright = pictures()
    bright[13, 0, 0, 0] = 255
    for name, images, complaint in (
        ("Square", pictures(), r"Square returned \(20, 1, 8, 8\) for 20 images; it must return features \(20, d\)"),
        (
            "Linear",
            pictures().expand(-1, 3, -1, -1),
            r"Linear takes no images of shape \(3, 8, 8\): RuntimeError: mat1",
        ),
        ("Poisoned", bright, "features of image 13 are not finite, nor are those of 0 others"),
        ("Linear", pictures()[:0], "no images"),
    ):
        network = extractor(f"tests.extractors.{name}")
        network.batch_size = 20 if name == "Square" else 6
        with pytest.raises(ValueError, match=complaint):
            network(images)
    for name in ("nonsense", "no.such.Module", "torch.nn.functional.relu", "tests.extractors.Nothing"):
        with pytest.raises(ValueError, match=f"xtractor '{name}'"):
            extractor(name)


def test_any_error_of_a_module_of_ones_own_is_a_sentence_that_names_it(monkeypatch, tmp_path):
    """While it is imported, built, or given images."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "cut_off.py").write_text("class Net(")
    (tmp_path / "needs_more.py").write_text("import absent_library\n")
    (tmp_path / "silent.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def forward(self, images):\n        raise KeyError\n"
    )
    for name, said in (
        ("cut_off.Net", "'cut_off.Net' cannot be imported: SyntaxError: "),
        (
            "needs_more.Net",
            "'needs_more.Net' cannot be imported: ModuleNotFoundError: No module named 'absent_library'",
        ),
        ("torch.nn.Linear", "'torch.nn.Linear' cannot be built without arguments: TypeError: "),
        ("silent.Net", r"silent.Net takes no images of shape \(1, 8, 8\): KeyError$"),
    ):
        with pytest.raises(ValueError, match=f"^Extractor {said}"):
            extractor(name)(pictures())


# Real features on disk


def test_real_features_are_computed_once():
    network = extractor("tests.extractors.Linear")
    first = network.of_real(pictures())
    before = Linear.calls
    assert torch.equal(extractor("tests.extractors.Linear").of_real(pictures()), first)
    assert Linear.calls == before


@pytest.mark.parametrize("change", ["image", "weight", "name", "preprocessing"])
def test_real_features_are_those_of_these_images_and_this_network(monkeypatch, change):
    images, network = pictures(), extractor("tests.extractors.Linear")
    network.of_real(images)
    before = Linear.calls
    if change == "image":
        images[19, 0, 7, 7] += 1
    elif change == "weight":
        network.network.linear.bias[4] += 1
    elif change == "name":
        network.name = "other"
    else:
        monkeypatch.setattr(features, "_PREPROCESSING", "none")
    assert torch.equal(network.of_real(images), network(images))
    assert Linear.calls > before + 1


def test_real_features_are_those_of_the_code_as_it_is_now(monkeypatch, tmp_path):
    """Another ``forward`` of the same layers, in the file that the class path names."""
    monkeypatch.syspath_prepend(tmp_path)
    found = []
    for factor in (1, -2):
        (tmp_path / "edited.py").write_text(
            "from torch import nn\n"
            "class Net(nn.Module):\n"
            "    def forward(self, images):\n"
            f"        return {factor} * images.flatten(1)\n"
        )
        importlib.invalidate_caches()
        monkeypatch.delitem(sys.modules, "edited", raising=False)
        found.append(extractor("edited.Net").of_real(pictures()))
    assert torch.equal(found[1], -2 * found[0])
    monkeypatch.delitem(sys.modules, "edited")


# The classifier


def test_the_classifiers_features_have_a_scale_and_its_head_reads_them():
    network = extractor("classifier", lambda name: named(name, own=Digits()))
    assert network.name == "classifier:digits"
    images = Digits().held_out_images
    assert network(images).shape == (297, 64)
    (train, _), (_, labels) = Digits().splits
    assert network(train).square().mean().item() == pytest.approx(1, rel=1e-3)
    correct = (network.head(network(images)).argmax(1) == labels).double().mean().item()
    assert correct == classifier.load(Digits())[1] > 0.97


def test_the_classifier_is_the_same_each_time_and_moves_no_random_state(monkeypatch):
    monkeypatch.setitem(classifier._RECIPE, "steps", 3)
    state = torch.get_rng_state()
    first, _ = classifier.load(Digits())
    second, _ = classifier.load(Digits(), again=True)
    assert torch.equal(state, torch.get_rng_state())
    for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(a, b)


def test_rescaling_features_leaves_the_logits_as_they_are():
    network, images = classifier.Classifier((1, 8, 8), 10), pictures().float() / 127.5 - 1
    before = network.head(network(images))
    classifier._rescale(network, pictures())
    torch.testing.assert_close(network.head(network(images)), before)
    assert network(images).square().mean().item() == pytest.approx(1, rel=1e-5)


def test_faults_of_the_classifier_are_told(monkeypatch):
    monkeypatch.setitem(classifier._RECIPE, "steps", 1)
    with pytest.raises(ValueError, match=r"takes images of shape \(1, 8, 8\), not \(3, 8, 8\)"):
        extractor("classifier:digits", named)(pictures().expand(-1, 3, -1, -1))
    with pytest.raises(ValueError, match="There is no data set ''; choose one of "):
        extractor("classifier", named)
    with pytest.raises(ValueError, match="Extractor 'classifier:digits' is trained on labels: give it a data set"):
        extractor("classifier:digits")

    class Unlabelled(Digits):
        def read(self):
            assert self.num_train == 100, "no more than the run's own images is decoded"
            train, held_out = super().read()
            return train._replace(labels=None), held_out._replace(labels=None)

    said = "^unlabelled has no labels to train a classifier on; choose another extractor, for instance pixels.$"
    with pytest.raises(ValueError, match=said):
        extractor("classifier", lambda name: named(name, own=Unlabelled(num_train=100)))
