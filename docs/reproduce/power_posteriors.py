"""The animated picture of power posteriors: python docs/reproduce/power_posteriors.py RUN

RUN is a training of digits with two latents; `docs/reproduce/power_posteriors.sh` makes it. For one held-out digit x,
the picture shows

- the prior p_α(z), and Langevin chains on it,
- the power posterior p_t(z|x) ∝ p_β(x|z)^t p_α(z), and chains that follow it along t_i = (i/N_t)^p,
- the images g_β(z) of nine of these chains,
- E_t[log p_β(x|z)], whose integral over t is log p(x): the line is a sum over a grid, the dots are the chains' means.

Steps are Metropolis-adjusted. Whenever t grows by Δ, the chains on p_t are resampled with the weights p_β(x|z)^Δ, so
that none stays in a mode that has lost its probability. Densities and line are exact but for the grid.
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

import thermoebm
from thermoebm.data import Digits
from thermoebm.densities import PowerPosterior, Tempered
from thermoebm.samplers import MALA, StepSizes, run
from thermoebm.schedules import power_law

IMAGES = Path(__file__).parents[1] / "images"
N, POWER = 10, 3.0  # N_t and p
FIRST, BETWEEN = 14, 5  # frames at t = 0, and from one temperature to the next
CHAINS, SHOWN, STEPS, TAIL = 200, 40, 8, 14  # chains, those drawn; steps in a frame, and those drawn behind a chain
STEP = 0.04  # step size on a density of variance 1
MILLISECONDS, HOLD = 110, 3000  # of a frame, and of the last one
MASSES = (0.98, 0.9, 0.75, 0.55, 0.35, 0.15)  # of the regions of highest density
BLUE, ORANGE, INK = "#0072B2", "#D55E00", "#222222"
Model = thermoebm.LatentEBM


class Grid:
    """Prior and likelihood of one image x (1, 1, 8, 8) on a grid of latents, where expectations are sums."""

    def __init__(self, model: Model, x: Tensor, points: int = 241, half_width: float = 6.0) -> None:
        self.axis = torch.linspace(-half_width, half_width, points, dtype=torch.float64)
        self.z = torch.cartesian_prod(self.axis, self.axis)
        with torch.no_grad():
            self.log_prior = model.prior.log_prob(self.z)
            self.log_likelihood = model.likelihood.log_prob(x, self.z.unsqueeze(1)).squeeze(1)

    def probabilities(self, t: float) -> Tensor:
        """p_t(z|x) of each point, which adds up to 1."""
        return (self.log_prior + t * self.log_likelihood).softmax(0)

    def expected(self, t: float) -> float:
        """E_t[log p_β(x|z)], in nats."""
        return float(self.probabilities(t) @ self.log_likelihood)

    def evidence(self) -> float:
        """log p(x), in nats."""
        return float((self.log_prior + self.log_likelihood).logsumexp(0) - self.log_prior.logsumexp(0))

    def least_variance(self, t: float) -> Tensor:
        """The variance () of p_t(z|x) in its narrowest direction."""
        p = self.probabilities(t).unsqueeze(1)
        centred = self.z - (p * self.z).sum(0)
        return torch.linalg.eigvalsh((p * centred).T @ centred)[0]

    def regions(self, t: float) -> list[float]:
        """The probability of a point at the edge of each region of highest density; these hold MASSES."""
        falling = self.probabilities(t).sort(descending=True).values
        return [float(falling[(falling.cumsum(0) < mass).sum()]) for mass in MASSES]

    def window(self) -> tuple[float, float, float, float]:
        """A square (left, right, bottom, top) around the largest region of the prior."""
        inside = self.z[self.probabilities(0.0) >= self.regions(0.0)[0]]
        low, high = inside.amin(0), inside.amax(0)
        (x, y), half = ((low + high) / 2).tolist(), 0.54 * float((high - low).max())
        return x - half, x + half, y - half, y + half


class Frame(NamedTuple):
    """Temperature; paths (TAIL, CHAINS, 2) on the prior and on p_t; E_t by the chains at the temperatures so far."""

    t: float
    prior: Tensor
    posterior: Tensor
    expected: list[float]


def resampled(log_weights: Tensor, rng: torch.Generator) -> Tensor:
    """Which chain each one becomes: systematic resampling, in which chains that stay keep their place."""
    edges = log_weights.softmax(0).cumsum(0) * len(log_weights)
    teeth = torch.arange(len(edges)) + torch.rand((), generator=rng, dtype=edges.dtype)
    drawn = torch.searchsorted(edges, teeth).clamp(max=len(edges) - 1)
    counts = drawn.bincount(minlength=len(edges))
    chosen = torch.arange(len(edges))
    chosen[counts == 0] = chosen.repeat_interleave((counts - 1).clamp(min=0))
    return chosen


def frames(model: Model, x: Tensor, grid: Grid, seed: int) -> list[Frame]:
    """The chains from frame to frame; those on p_t go on from where they were."""
    rng = torch.Generator().manual_seed(seed)
    path = PowerPosterior(model.prior, model.likelihood, x.expand(CHAINS, -1, -1, -1), torch.zeros(()))
    temperatures = power_law(N, POWER)
    sizes = torch.stack([STEP * grid.least_variance(t) for t in temperatures.tolist()])
    kernel = MALA(step_size=STEP, num_steps=STEPS).tuned(StepSizes(temperatures, sizes))

    def moved(density: Tempered, paths: Tensor) -> Tensor:
        noise = torch.randn(STEPS, CHAINS, kernel.noise_dim(2), generator=rng, dtype=torch.float64)
        for step in noise.split(1):
            paths = torch.cat([paths[1:], run(kernel, density, paths[-1], step)[0].z[None]])
        return paths

    prior = posterior = torch.randn(CHAINS, 2, generator=rng, dtype=torch.float64).expand(TAIL, -1, -1)
    made: list[Frame] = []
    expected: list[float] = []
    places = np.concatenate([np.zeros(FIRST), np.arange(1, N * BETWEEN + 1) / BETWEEN])
    before = torch.zeros((), dtype=torch.float64)
    for i, place in enumerate(places):
        t = before.new_tensor((place / N) ** POWER)
        with torch.no_grad():
            posterior = posterior[:, resampled((t - before) * path.tempered(posterior[-1]), rng)]
        prior, posterior = moved(path.at(torch.zeros_like(t)), prior), moved(path.at(t), posterior)
        if i >= FIRST - 1 and place == int(place):
            with torch.no_grad():
                expected.append(float(path.tempered(posterior[-1]).mean()))
        made.append(Frame(float(t), prior, posterior, list(expected)))
        before = t
    return made


def latents(axes: Axes, grid: Grid, t: float, paths: Tensor, name: str) -> None:
    """p_t as regions of highest density, and the last steps of chains, each with a dot at its end."""
    values = grid.probabilities(t).reshape(len(grid.axis), -1).T.numpy()
    colours = colormaps[name](np.linspace(0.15, 0.75, len(MASSES)))
    axes.contourf(grid.axis, grid.axis, values, [*grid.regions(t), 1.0001 * values.max()], colors=colours)
    lines = paths[:, :SHOWN].transpose(0, 1).numpy()
    axes.add_collection(LineCollection(list(lines), colors=INK, linewidths=0.8, alpha=0.35))
    axes.scatter(*lines[:, -1].T, s=17, color=INK, linewidths=0.6, edgecolors="white", zorder=3)
    left, right, bottom, top = grid.window()
    axes.set(xlim=(left, right), ylim=(bottom, top), xticks=[], yticks=[])


def side_by_side(images: Tensor, columns: int = 3) -> np.ndarray:
    """Images (n, 1, 8, 8) in rows, a white pixel between them."""
    padded = torch.nn.functional.pad(images.squeeze(1), (0, 1, 0, 1), value=-1.0)
    rows = padded.reshape(-1, columns, *padded.shape[1:]).transpose(1, 2)
    return rows.reshape(-1, columns * padded.shape[-1])[:-1, :-1].numpy()


def integrand(axes: Axes, grid: Grid, frame: Frame) -> None:
    """E_t from 0 to the frame's t, the area between it and zero, and what the chains say."""
    known = [t for t in np.linspace(0, 1, 301) ** POWER if t < frame.t] + [frame.t]
    values = [grid.expected(t) for t in known]
    axes.fill_between(known, values, 0, color=ORANGE, alpha=0.22, linewidth=0)
    axes.plot(known, values, color=ORANGE, linewidth=2.2)
    rungs = power_law(N, POWER).tolist()[: len(frame.expected)]
    axes.plot(rungs, frame.expected, "o", color=INK, markersize=5.5, markeredgecolor="white", zorder=3, clip_on=False)
    axes.set(xlim=(0, 1), ylim=(1.1 * grid.expected(0.0), 0), xticks=[0, 1])
    ticks = [0, int(grid.expected(0.0) // 10 + 1) * 10]
    axes.set_yticks(ticks, [f"{tick}".replace("-", "−") for tick in ticks])
    axes.spines["right"].set_visible(False)
    axes.text(0.5, -0.05, "$t$", ha="center", va="top", transform=axes.transAxes)
    if frame.t == 1:
        area = "area $=\\ \\log p(x)$\n" + rf"$=\ {grid.evidence():.1f}$ nats"
        axes.text(0.54, 0.5 * values[-1], area, ha="center", va="center", linespacing=1.5)


def drawn(model: Model, x: Tensor, grid: Grid, frame: Frame) -> Image.Image:
    figure = Figure(figsize=(9.6, 3.6), dpi=100, facecolor="white")
    canvas = FigureCanvasAgg(figure)
    bottom, height, above, below = 0.15, 0.68, 0.9, 0.035
    prior, posterior = (figure.add_axes((left, bottom, 0.255, height)) for left in (0.015, 0.285))
    latents(prior, grid, 0.0, frame.prior, "Blues")
    latents(posterior, grid, frame.t, frame.posterior, "Oranges")
    with torch.no_grad():
        generated = side_by_side(model.generator(frame.posterior[-1, :9]))
    for place, pixels in (((0.586, 0.59, 0.09, 0.24), x[0, 0].numpy()), ((0.549, bottom, 0.165, 0.41), generated)):
        axes = figure.add_axes(place)
        axes.imshow(pixels, cmap="gray_r", vmin=-1, vmax=1)
        axes.axis("off")
    integrand(figure.add_axes((0.775, bottom, 0.207, height)), grid, frame)
    for at, height, words, colour in (
        (0.142, above, "prior", BLUE),
        (0.142, below, r"$p_\alpha(z)$", BLUE),
        (0.412, above, "power posterior", ORANGE),
        (0.412, below, rf"$p(x|z)^t\,p_\alpha(z),\ \ t={frame.t:.3f}$", ORANGE),
        (0.631, above, "image $x$", INK),
        (0.631, below, "generated", INK),
        (0.875, above, r"$E_t[\log p(x|z)]$", ORANGE),
    ):
        figure.text(at, height, words, ha="center", color=colour)
    canvas.draw()
    return Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--image", type=int, default=1, help="number of the held-out digit")
    parser.add_argument("--seed", type=int, default=0, help="of the chains")
    parser.add_argument("--output", type=Path, default=IMAGES, help="folder")
    given = parser.parse_args()
    model = thermoebm.load(given.run).double()
    x = next(iter(Digits(batch_size=297).val_dataloader()))[given.image, None].double()
    grid = Grid(model, x)
    made = frames(model, x, grid, given.seed)
    print("t, E_t by sums over the grid and by the chains:")
    for t, chains in zip(power_law(N, POWER).tolist(), made[-1].expected, strict=True):
        print(f"{t:.3f} {grid.expected(t):8.2f} {chains:8.2f}")
    print(f"log p(x) {grid.evidence():.2f} nats")
    with rc_context({"font.size": 17, "mathtext.fontset": "cm"}):
        pictures = [drawn(model, x, grid, frame) for frame in made]
    given.output.mkdir(parents=True, exist_ok=True)
    file = given.output / "power-posteriors.webp"
    durations = [MILLISECONDS] * (len(pictures) - 1) + [HOLD]
    pictures[0].save(
        file, save_all=True, append_images=pictures[1:], duration=durations, loop=0, lossless=True, method=4
    )
    pictures[-1].save(file.with_suffix(".png"), optimize=True)
    print(f"{file}, {file.stat().st_size / 1e6:.2f} MB, {len(pictures)} frames, {sum(durations) / 1e3:.1f} s")


if __name__ == "__main__":
    main()
