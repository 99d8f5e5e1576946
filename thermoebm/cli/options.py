"""The options of train.py that belong to neither the model, the data nor the trainer."""

from typing import Literal

from jsonargparse.typing import NonNegativeFloat, PositiveInt
from lightning.pytorch.cli import LightningArgumentParser

from thermoebm.callbacks import BestCheckpoint, EnergyAlarm, GenerationMetrics, GradientVariance
from thermoebm.cli.config import a_seed, whole_numbers_first
from thermoebm.runs.finding import Which


def add_options(parser: LightningArgumentParser) -> None:
    """Adds them, the callbacks whose fields an overlay can change among them, and hands the seed on."""
    whole_numbers_first(parser)
    parser.add_argument("--name", type=str, default="run", help="Runs are kept in RUNS/NAME/0, 1, ...")
    parser.add_argument("--variant", type=str, default=None, help="If given, in RUNS/NAME-VARIANT/0, 1, ...")
    parser.add_argument("--runs", type=str, default="runs", help="The folder of all runs.")
    parser.add_argument(
        "--threads",
        type=Literal["auto"] | int,
        default="auto",
        help="CPU threads. auto: one where a batch is too small to share out, else all cores.",
    )
    parser.add_argument("--num_samples", type=PositiveInt, default=100, help="Images that predict draws.")
    parser.add_argument("--which", type=Which, default="last", help="Which checkpoint of a folder in ckpt_path.")
    parser.add_argument(
        "--resume",
        type=Literal["auto", "never"],
        default="never",
        help="auto: fit goes on with the newest run that this config continues, if there is one.",
    )
    parser.add_argument(
        "--disk_patience",
        type=NonNegativeFloat,
        default=300.0,
        help="Seconds for which training waits if a disk is full, read-only or away, before it ends.",
    )
    # Not in the list of callbacks, so that an overlay can change single fields of a config's measurements.
    parser.add_lightning_class_args(GradientVariance, "gradient_variance")
    parser.add_lightning_class_args(GenerationMetrics, "fidelity")
    parser.set_defaults({"gradient_variance.every_n_epochs": 0, "fidelity.every_n_epochs": 0})
    parser.add_class_arguments(BestCheckpoint, "best")
    # No callback of Lightning's list: it comes before those that measure, see instantiate_trainer.
    parser.add_class_arguments(EnergyAlarm, "runaway")
    parser.link_arguments("seed_everything", "model.init_args.seed", compute_fn=a_seed)
    parser.link_arguments("seed_everything", "data.init_args.seed", compute_fn=a_seed)
