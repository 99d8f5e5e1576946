"""What is measured of held-out images in validation and test, and the weights with which it is measured."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from thermoebm import evidence
from thermoebm.modules.averaging import AveragedWeights
from thermoebm.modules.sampling import Sampling
from thermoebm.objectives import Objective
from thermoebm.schedules import Schedule


class HeldOut(Sampling):
    """Validation, test and prediction, with the averaged weights if there are any."""

    objective: Objective
    evidence_schedule: Schedule
    averaged: AveragedWeights | None

    def weights(self) -> list[nn.Parameter]:
        """The parameters of both networks, in an order that never changes."""
        return [*self.energy.parameters(), *self.generator.parameters()]

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """Within it the networks have the averaged weights, if there are any; nothing may train in it."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def take_averaged_weights(self) -> None:
        """Goes on with the averaged weights, if there are any, for good: the average ends."""
        self._swap()
        self.averaged = None

    def on_validation_epoch_start(self) -> None:
        self._swap()

    on_validation_epoch_end = on_test_epoch_start = on_test_epoch_end = on_validation_epoch_start
    on_predict_epoch_start = on_predict_epoch_end = on_validation_epoch_start

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        self._evaluate("val", batch, batch_idx)

    def test_step(self, batch: Tensor, batch_idx: int) -> None:
        self._evaluate("test", batch, batch_idx)

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        """Generates as many images as the batch has entries; the entries themselves are not used."""
        return self.generate(len(batch[0]), self.stream("predict", batch_idx))

    def _swap(self) -> None:
        if self.averaged is not None:
            self.averaged.swap(self.weights())

    def _evaluate(self, stage: str, x: Tensor, batch_idx: int) -> None:
        """Logs the objective's loss and the measures that compare objectives, on held-out images, with separate noise.

        The noise depends on the batch, not on the epoch, so that curves over epochs change through learning alone, and
        not on the stage: validation and test use the same images and give the same numbers.
        """
        output = self.objective(self, x, self.stream("val", batch_idx), step=None)
        t, ell = self.ladder(x, self.evidence_schedule, self.stream("val evidence", batch_idx))
        log_evidence = evidence.trapezium(t, ell.mean(-1))
        left, right = evidence.bracket(t, ell.mean(-1))
        reconstruction = self.reconstruct(x, self.stream("val reconstruction", batch_idx))
        scalars = {
            "loss": output.loss.detach(),
            **output.diagnostics,
            "short_run_evidence": log_evidence,
            "short_run_nll": -log_evidence,
            "left_sum": left,
            "right_sum": right,
            "reconstruction_error": (x - reconstruction).square().mean(),
        }
        self.log_dict({f"{stage}/{name}": v for name, v in scalars.items()}, batch_size=len(x), sync_dist=True)
