"""Makes training steps with the report's own code, one for each line that it reads: see :mod:`benchmarks.reference`.

The program runs under the Python of that code, in a folder with its hyperparams.ini, and imports only JAX and that
code. It answers each line, ``facts``, ``counts``, ``step`` or ``loop``, with a line of JSON.
"""

import json
import os
import sys
from functools import partial

LOOP = 2


def counts(jaxpr, times=1):
    """Steps of posterior and prior chains of one image, and passes of all images through the generator.

    A compiler's count sees the body of a loop once; here it counts as often as it runs. Innermost scans are chains, and
    those with a tanh pass through the generator, which ends in one.
    """
    found = {"posterior_steps": 0, "prior_steps": 0, "generator_passes": 0}
    for equation in jaxpr.eqns:
        scan = equation.primitive.name == "scan"
        if equation.primitive.name == "tanh":
            found["generator_passes"] += times * equation.outvars[0].aval.shape[0]
        for body in _bodies(equation.params):
            inner = counts(body, times * (equation.params["length"] if scan else 1))
            if scan and not inner["posterior_steps"] + inner["prior_steps"]:
                inner["posterior_steps" if inner["generator_passes"] else "prior_steps"] = (
                    times * equation.params["length"]
                )
            if equation.primitive.name == "while" and any(inner.values()):
                raise RuntimeError("chains in a loop without a known length cannot be counted")
            found = {name: count + inner[name] for name, count in found.items()}
    return found


def _bodies(params):
    """The programs within an operation, such as the body of a loop or a jitted function."""
    for value in params.values():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            part = getattr(part, "jaxpr", part)
            if hasattr(part, "eqns"):
                yield part


class Training:
    """The state of a training, on images of noise; the step is jitted as a whole, as its code does."""

    def __init__(self):
        import jax
        import jax.numpy
        import numpy
        from src.loss_computation import loss_helper_fcns, losses_and_grads
        from src.pipeline import initialise, pipeline_steps

        self.jax = jax
        key = jax.random.PRNGKey(0)
        key, energy, energy_of = initialise.init_EBM(key)
        self.key, generator, image_of = initialise.init_GEN(key)
        self.parameters = (energy, generator)
        optimisers = initialise.init_EBM_optimiser(energy), initialise.init_GEN_optimiser(generator)
        self.states = tuple(state for _, state in optimisers)
        networks = (energy_of, image_of)
        size = loss_helper_fcns.image_dim
        shape = (loss_helper_fcns.batch_size, size, size, 3)
        self.x = jax.device_put(numpy.random.default_rng(0).uniform(-1, 1, shape).astype("float32"))
        adams = tuple(adam for adam, _ in optimisers)
        self.train_step = partial(pipeline_steps.train_step, optimiser_tup=adams, fwd_fcn_tup=networks)
        self.loss = partial(losses_and_grads.get_loss, fwd_fcn_tup=networks)
        self.jitted = jax.jit(self.train_step)
        self.looped = None

    def facts(self):
        return {"jax": self.jax.__version__, "device": self.jax.devices()[0].platform, "python": sys.version.split()[0]}

    def counts(self):
        # Scans of the backward pass are no chains; its passes through the generator, if it had any, would count.
        loss = self.jax.make_jaxpr(self.loss)(self.key, self.x, self.parameters)
        step = self.jax.make_jaxpr(self.train_step)(self.key, self.x, self.parameters, self.states)
        return counts(loss.jaxpr) | {"generator_passes": counts(step.jaxpr)["generator_passes"]}

    def step(self):
        made = self.jitted(self.key, self.x, self.parameters, self.states)
        self.key, self.parameters, self.states, loss, *_ = self.jax.block_until_ready(made)
        return {"loss": float(loss)}

    def loop(self):
        """LOOP steps within one program, a scan over their batches, as an epoch of that code is."""

        def batch(state, x):
            key, parameters, states, loss, *_ = self.jitted(state[0], x, *state[1:])
            return (key, parameters, states), loss

        if self.looped is None:
            self.looped = self.jax.jit(lambda state, xs: self.jax.lax.scan(batch, state, xs))
            self.batches = self.jax.numpy.stack([self.x] * LOOP)
        made = self.looped((self.key, self.parameters, self.states), self.batches)
        (self.key, self.parameters, self.states), losses = self.jax.block_until_ready(made)
        return {"loss": float(losses[-1])}


def main():
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # that code prints
    sys.path.insert(0, sys.argv[1])
    training = Training()
    for line in sys.stdin:
        answers.write(json.dumps(getattr(training, line.strip())()) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
