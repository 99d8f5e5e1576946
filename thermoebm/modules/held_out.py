"""What a ladder measures of held-out images in validation and test."""

from torch import Tensor

from thermoebm import evidence
from thermoebm.modules.sampling import Sampling
from thermoebm.schedules import Schedule


class HeldOut(Sampling):
    """The evidence of held-out images beside the objective's loss."""

    evidence_schedule: Schedule

    def held_out(self, x: Tensor, batch_idx: int) -> dict[str, Tensor]:
        """The objective's loss and the measures that compare objectives, with separate noise."""
        output = self.output(x, self.stream("val", batch_idx), None)
        t, ell = self.ladder(x, self.evidence_schedule, self.stream("val evidence", batch_idx))
        log_evidence = evidence.trapezium(t, ell.mean(-1))
        left, right = evidence.bracket(t, ell.mean(-1))
        reconstruction = self.reconstruct(x, self.stream("val reconstruction", batch_idx))
        return {
            "loss": output.loss.detach(),
            **output.diagnostics,
            "short_run_evidence": log_evidence,
            "short_run_nll": -log_evidence,
            "left_sum": left,
            "right_sum": right,
            "reconstruction_error": (x - reconstruction).square().mean(),
        }
