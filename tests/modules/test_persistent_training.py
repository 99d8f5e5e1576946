"""Persistent chains in training: what goes on, what is resumed, and what leaves them alone."""

from functools import partial

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from tests.modules.test_chains import Reads, images, quiet_trainer
from tests.oracle import flat
from thermoebm.callbacks import GradientVariance, PosteriorAlarm
from thermoebm.callbacks.flops import count_flops
from thermoebm.data import Digits
from thermoebm.gradients import Design
from thermoebm.gradients.draws import measure
from thermoebm.modules.persistent import Batch
from thermoebm.objectives import ThermodynamicIntegration
from thermoebm.schedules import PowerLaw
from thermoebm.study.planning.traces import trace_chains, trace_gradient

QUIET = {"enable_model_summary": False, "limit_val_batches": 0, "log_every_n_steps": 100}


def digits(**fields):
    return Digits(**{"num_train": 60, "num_val": 20, "batch_size": 20, "augment": "flip", "resident": "off"} | fields)


def ladder(estimator="contrastive"):
    return ThermodynamicIntegration(estimator, PowerLaw(3, 2.0), evidence_every=2)


@pytest.fixture
def persistent(small_model):
    return partial(small_model, chain_start="persistent", objective=ladder())


def fit(model, data, epochs, callbacks=(), ckpt_path=None, **fields):
    trainer = quiet_trainer(epochs, list(callbacks), **QUIET | fields)
    trainer.fit(model, data, ckpt_path=ckpt_path)
    return trainer


def tables(state):
    """Copies of states and visits by name, of a model or a checkpoint."""
    state = state["persistent_chains"] if isinstance(state, dict) else state.persistent.state()
    return {name: [part.clone() for part in table.values()] for name, table in state["tables"].items()}


def differ(one, other):
    """Names of the tables that are not equal bit for bit."""
    return [name for name in one | other if not all(map(torch.equal, one[name], other[name]))]


class Seen(pl.Callback):
    """What a callback sees of the batches, and which keys and states the steps had."""

    def __init__(self):
        self.shapes, self.keys = [], []

    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        self.shapes.append(batch.shape)
        self.keys.append(module.keys.clone())


def test_training_goes_on_where_the_last_visit_to_an_image_ended(persistent, monkeypatch):
    """In the third epoch every chain, prior's or posterior's, starts at the end that this key had last, or afresh."""
    model, seen = persistent(), Seen()
    ends, continued = {"prior": {}, "posterior": {}}, {"prior": [], "posterior": []}
    for name, dim, inner in (("prior", 0, model.chains.run_prior), ("posterior", 1, model.chains.run_posterior)):

        def run(*arguments, name=name, dim=dim, inner=inner, **options):
            start, end = arguments[-2], inner(*arguments, **options)
            for i, key in enumerate(seen.keys[-1].tolist()):
                if (before := ends[name].get(key)) is not None:
                    continued[name].append(torch.equal(start.select(dim, i), before))
                ends[name][key] = end.select(dim, i).clone()
            return end

        monkeypatch.setattr(model.chains, f"run_{name}", run)
    fit(model, digits(), 3, [seen])
    assert seen.shapes == [(20, 1, 8, 8)] * 9
    visited = torch.cat(seen.keys)
    assert len(continued["prior"]) == len(continued["posterior"]) == 180 - len(visited.unique()) > 60
    assert all(continued["prior"] + continued["posterior"])
    for name, (states, visits) in tables(model).items():
        assert states.shape == ({"prior": 1, "posterior": 3}[name], 120, 8)
        assert visits.sum(1).tolist() == [len(visited.unique())] * len(states)


def test_prior_chains_alone_can_go_on(small_model, monkeypatch):
    """Posterior ones then start at π0, as those of ``reference`` do with the same noise; only prior ones are kept."""
    starts = {}
    for start in ("persistent_prior", "reference"):
        model = small_model(chain_start=start, objective=ladder())
        for name in ("prior", "posterior"):
            kept, inner = starts.setdefault((start, name), []), getattr(model.chains, f"run_{name}")

            def run(*arguments, kept=kept, inner=inner, **options):
                kept.append(arguments[-2].clone())
                return inner(*arguments, **options)

            monkeypatch.setattr(model.chains, f"run_{name}", run)
        fit(model, digits(), 2)
        if start == "persistent_prior":
            assert [*tables(model)] == ["prior"]
    of_prior, of_posterior = (
        list(map(torch.equal, starts["persistent_prior", name], starts["reference", name]))
        for name in ("prior", "posterior")
    )
    assert of_prior[:3] == [True] * 3  # first visits
    assert not any(of_prior[3:])
    assert all(of_posterior)


def test_a_resumed_run_is_the_uninterrupted_one(persistent, tmp_path):
    """Bit for bit: parameters and chains; and without its chains it is another one."""
    parts, paths = [], {name: tmp_path / f"{name}.ckpt" for name in ("whole", "two", "without", "resumed")}
    fit(persistent(), digits(), 4).save_checkpoint(paths["whole"])
    fit(persistent(), digits(), 2).save_checkpoint(paths["two"])
    kept = torch.load(paths["two"], weights_only=True)
    torch.save(kept | {"persistent_chains": None}, paths["without"])
    for path in (paths["two"], paths["without"]):
        fit(persistent(), digits(), 4, ckpt_path=path).save_checkpoint(paths["resumed"])
        parts.append(torch.load(paths["resumed"], weights_only=True))
    whole = torch.load(paths["whole"], weights_only=True)
    assert whole["persistent_chains"]["identity"] == kept["persistent_chains"]["identity"]
    assert differ(tables(parts[0]), tables(whole)) == []
    equal = [all(torch.equal(p["state_dict"][n], t) for n, t in whole["state_dict"].items()) for p in parts]
    assert equal == [True, False]


@pytest.mark.parametrize("other", [{"num_train": 40}, {"augment": "none"}])
def test_other_training_images_start_anew(persistent, tmp_path, other):
    fit(persistent(), digits(), 1).save_checkpoint(tmp_path / "kept.ckpt")
    model = persistent()
    with pytest.warns(UserWarning, match="Persistent chains start anew"):
        fit(model, digits(**other), 2, ckpt_path=tmp_path / "kept.ckpt")
    for name, (states, visited) in tables(model).items():
        assert states.shape[1] == {40: 80, 60: 60}[other.get("num_train", 60)], name
        assert (visited.sum(1) <= 60).all()


def test_a_loaded_model_and_another_start_know_nothing_of_them(persistent, small_model, tmp_path):
    fit(persistent(), digits(), 1).save_checkpoint(tmp_path / "kept.ckpt")
    model = small_model(objective=ladder())
    trainer = fit(model, digits(), 2, ckpt_path=tmp_path / "kept.ckpt")
    trainer.save_checkpoint(tmp_path / "reference.ckpt")
    assert "persistent_chains" not in torch.load(tmp_path / "reference.ckpt", weights_only=True)
    fit(persistent(), digits(), 3, ckpt_path=tmp_path / "reference.ckpt")


def test_whatever_is_measured_leaves_chains_as_they_are(persistent, small_model):
    """And starts at π0, like that of a model with reference starts; but for draws of the gradient, which only read."""
    data, model = digits(), persistent()
    trainer = fit(model, data, 2, [PosteriorAlarm(), GradientVariance(1, 4, 2, 2)], limit_val_batches=1)
    reference = small_model(objective=ladder())
    reference.load_state_dict(model.state_dict())
    before, loader = tables(model), trainer.train_dataloader
    batch = next(iter(loader))
    assert isinstance(batch, Batch)

    found = []
    for m in (model, reference):
        stream = partial(m.stream, "test")
        m.zero_grad()
        found.append(
            [
                m.generate(4, stream(3)),
                m.loss(batch.images, stream(1)),
                m.loss(batch.images, stream(2), 0),
                m.reconstruct(batch.images, stream(4)),
                *m.ladder(batch.images, m.evidence_schedule, stream(5)),
                *trainer.validate(m, data.val_dataloader(), verbose=False)[0].values(),
                count_flops(m, batch.images, 0),
            ]
        )
        measure(m.loss, m, loader, stream(6), stream(7), Design(4, 2, 2))
    assert all(torch.equal(*map(torch.as_tensor, pair)) for pair in zip(*found, strict=True))
    draws = [m.loss(batch, m.stream("test", 8)).item() for m in (model, model, reference)]
    assert draws[0] == draws[1] != draws[2] == reference.loss(batch.images, reference.stream("test", 8)).item()
    assert differ(before, tables(model)) == []


def test_draws_of_the_gradient_start_where_training_left_off(persistent, monkeypatch):
    """At the stored states of the drawn keys, for the prior and each rung."""
    model = persistent()
    loader = fit(model, digits(augment="none"), 1).train_dataloader
    kept, starts, batches = tables(model), [], []
    monkeypatch.setattr(model.chains, "run_posterior", lambda x, t, z, noise, **_: starts.append(z) or z)
    monkeypatch.setattr(model.chains, "run_prior", lambda z, noise, **_: starts.append(z) or z)

    def loss(batch: Batch, rng: torch.Generator) -> Tensor:
        batches.append(batch)
        return model.loss(batch, rng, step=0)

    measure(loss, model, loader, model.stream("noise"), model.stream("order"), Design(4, 2, 2))
    assert len(starts) == 2 * len(batches) == 16
    for batch, prior, posterior in zip(batches, starts[::2], starts[1::2], strict=True):
        assert torch.equal(prior, kept["prior"][0][0, batch.keys])
        assert torch.equal(posterior, kept["posterior"][0][:, batch.keys].flip(0))


@pytest.mark.filterwarnings("ignore:The energy received an exactly zero gradient")
@pytest.mark.parametrize("estimator", [None, "endpoints", "contrastive", "detached", "pathwise"])
def test_no_step_waits_for_what_it_computes(persistent, estimator):
    """Every objective, and twice as many visits as images: also where chains go on."""
    model = persistent(objective=ladder(estimator) if estimator else None)
    reads = Reads()
    fit(model, digits(), 2, [reads])
    assert reads.steps == 6
    assert reads.names == []
    assert flat(list(model.parameters())).isfinite().all()


def test_batches_without_keys_are_refused(persistent):
    """Also for a model that has been trained on some that had them, and is given that loader alone."""
    model, held_out = persistent(), digits().val_dataloader()
    keyed = fit(model, digits(), 1).train_dataloader
    for loader in (DataLoader(images(18), 6), digits().train_dataloader(), keyed):
        with pytest.raises(ValueError, match=r"the training batches do not say which images they have; train on an"):
            quiet_trainer(1, [], **QUIET).fit(model, loader, held_out)


def test_plans_and_costs_are_those_of_fresh_chains(persistent, small_model):
    models = persistent(), small_model(objective=ladder())
    of_gradient, of_chains = ([trace(model) for model in models] for trace in (trace_gradient, trace_chains))
    assert of_gradient[0] == of_gradient[1]
    assert of_chains[0] == of_chains[1]
