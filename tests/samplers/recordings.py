"""A model whose chains are recorded on a tape, and the same chains without."""

import copy

import torch

from tests.tape import tape
from thermoebm.samplers import Recorder

T = torch.tensor([0.1, 1.0])


def images(count=6, size=8):
    return torch.rand(count, 1, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1


def with_tape(model, capture=tape):
    """Its chains are recorded; steps are not compiled without a batch of training."""
    model.chains.compile, model.chains.recorder = "graph", Recorder(capture)
    return model


def ends(model, seed=0, count=6, t=T):
    """Ends of a prior chain and of chains at two temperatures."""
    prior = model.sample_prior(count, model.stream("prior", seed))
    return prior, model.sample_posterior(images(count), t, model.stream("posterior", seed))


def unrecorded(model, **arguments):
    plain = copy.deepcopy(model)
    plain.chains.compile = "off"
    return ends(plain, **arguments)


def agree(found, expected):
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
