"""What a model needs of its networks, which may be any modules: shapes, precision, and gradients in the latents.

It takes some ms: large networks are run without values.
"""

from abc import ABC, abstractmethod
from numbers import Integral
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd
from torch.nn.parameter import is_lazy

from thermoebm.networks import Energy, Generator
from thermoebm.runtime.cost import precision, trial

if TYPE_CHECKING:
    Network = nn.Module
else:

    class Network(ABC):
        """Any ``nn.Module``. Under that name, the programs' help would list every one in torch and torchvision."""

        @abstractmethod
        def forward(self, z: Tensor) -> Tensor:
            """Maps latents to energies or images."""

        @classmethod
        def __subclasshook__(cls, kind: type) -> bool:
            return issubclass(kind, nn.Module)


class Fitting:
    """Checks the networks of a model; each fault is a ValueError with the network, what is wrong, and what to do.

    Args:
        of: The name of the model's class.
    """

    def __init__(self, of: str) -> None:
        self.of = of

    def latents(self, energy: Network, generator: Network) -> tuple[Energy, Generator]:
        """The two networks, with the attributes that one of them lacks and the other, or its images, tell.

        Raises:
            ValueError: If they cannot be the networks of a model: which of them, what is wrong, and what to do.
        """
        networks = {"energy": energy, "generator": generator}
        for role, network in networks.items():
            if not isinstance(network, nn.Module):
                raise ValueError(f"{self.of}: the {role} is {network!r}; give a torch.nn.Module.")
        latent_dim = self._latent_dim(energy, generator)
        for network in networks.values():
            self._check_layers(network)
        self._check_apart(energy, generator)
        # Chains have one latent for each image, or for each temperature and image. There are as many images here as no
        # latent has numbers: what is summed over the wrong axis has another shape.
        for shape in ((2,), (1,), (2, latent_dim + 1)):
            self._check_energies(energy, (*shape, latent_dim))
        self._check_images(generator, (2, latent_dim), precision(energy))
        return cast(Energy, energy), cast(Generator, generator)

    def _latent_dim(self, energy: nn.Module, generator: nn.Module) -> int:
        """The size d of a latent, which at least one network says; the other is given it."""
        said: dict[nn.Module, Any] = {network: getattr(network, "latent_dim", None) for network in (energy, generator)}
        for network, size in said.items():
            if size is not None and not (isinstance(size, Integral) and int(size) >= 1):
                raise ValueError(
                    f"{self.of}: {_name(network)}.latent_dim is {size!r}; it must be a whole number from 1 on."
                )
        known = [size for size in said.values() if size is not None]
        if not known:
            raise ValueError(
                f"{self.of}: neither {_name(energy)} nor {_name(generator)} has latent_dim; set self.latent_dim, the "
                "size of a latent, in the __init__ of either."
            )
        if len({*known}) > 1:
            raise ValueError(
                f"{self.of}: the energy takes latents of size {energy.latent_dim}, the generator of size "
                f"{generator.latent_dim}; give both the same latent_dim."
            )
        for network, size in said.items():
            if size is None:
                network.latent_dim = known[0]
        return int(known[0])

    def _check_layers(self, network: nn.Module) -> None:
        """There is something to train, and no layer that makes a density depend on more than its latent."""
        if not any(p.is_floating_point() for p in network.parameters()):
            raise ValueError(
                f"{self.of}: {_name(network)} has no floating-point parameter, and all networks are trained; give it "
                "an nn.Parameter (one with requires_grad=False keeps it as it is)."
            )
        for path, layer in network.named_modules():
            where = f"{self.of}: {_name(network)} has the layer {path}, {type(layer).__name__}"
            if isinstance(layer, _BatchNorm) and (layer.training or not layer.track_running_stats):
                raise ValueError(
                    f"{where}, by which the density of a latent would depend on the others of its batch; take "
                    "GroupNorm."
                )
            if isinstance(layer, _DropoutNd) and layer.training and layer.p > 0:
                raise ValueError(
                    f"{where}, by which the density of a latent would be another at each call; leave it out."
                )

    def _check_apart(self, energy: nn.Module, generator: nn.Module) -> None:
        own = {id(p) for p in energy.parameters()}
        if shared := [name for name, p in generator.named_parameters() if id(p) in own]:
            raise ValueError(
                f"{self.of}: {_name(energy)} and {_name(generator)} share the parameter {shared[0]}, and each has its "
                "own settings of Adam; give each its own parameters."
            )

    def _check_energies(self, energy: nn.Module, shape: tuple[int, ...]) -> None:
        wanted = shape[:-1]
        output = self._tried(energy, shape, precision(energy), f"one energy for each latent, {wanted}")
        if output.shape != wanted:
            hint = ", for instance by .squeeze(-1)" if output.shape == (*wanted, 1) else ""
            raise ValueError(
                f"{self.of}: {_name(energy)} returns shape {tuple(output.shape)} for latents {shape}; it must return "
                f"one energy for each latent, {wanted}{hint}."
            )
        self._check_gradient(energy, output)

    def _check_images(self, generator: nn.Module, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        """Checks the shape of images, and notes it in a generator that does not say it."""
        output = self._tried(generator, shape, dtype, f"one image for each latent, ({shape[0]}, C, H, W)")
        if output.dim() != 4 or len(output) != shape[0]:
            raise ValueError(
                f"{self.of}: {_name(generator)} returns shape {tuple(output.shape)} for latents {shape}; it must "
                f"return one image for each latent, ({shape[0]}, C, H, W)."
            )
        made = tuple(output.shape[1:])
        said: Any = getattr(generator, "image_shape", None)
        if said is None:
            generator.image_shape = made  # type: ignore[assignment]
        elif tuple(said) != made:
            raise ValueError(
                f"{self.of}: {_name(generator)} makes images of shape {made}, and its image_shape is {tuple(said)}; "
                "make them agree, or leave image_shape out."
            )
        self._check_gradient(generator, output)

    def _tried(self, network: nn.Module, shape: tuple[int, ...], dtype: torch.dtype, wanted: str) -> Tensor:
        try:
            if any(map(is_lazy, network.parameters())):  # its first pass makes its parameters
                with torch.no_grad():
                    network(torch.zeros(shape, dtype=dtype, device=next(network.parameters()).device))
            output = trial(network, *shape, dtype=dtype, graph=True).output
        except Exception as error:
            reason = (str(error).strip() or "no reason given").splitlines()[0]
            raise ValueError(
                f"{self.of}: {_name(network)} cannot take latents of shape {shape} in {dtype} ({type(error).__name__}: "
                f"{reason}); it must return {wanted}."
            ) from error
        if not isinstance(output, Tensor):
            kind = type(output).__name__
            raise ValueError(f"{self.of}: {_name(network)} returns a {kind}; it must return {wanted}, as a tensor.")
        return output

    def _check_gradient(self, network: nn.Module, output: Tensor) -> None:
        if not output.requires_grad:
            raise ValueError(
                f"{self.of}: what {_name(network)} returns has no gradient in its latents, which Langevin dynamics "
                "needs; compute it from them, without detach() or no_grad()."
            )

    def generator(self, generator: Network) -> Generator:
        """A generator that says its latents, with its images noted if it does not say them."""
        if not isinstance(generator, nn.Module):
            raise ValueError(f"{self.of}: the generator is {generator!r}; give a torch.nn.Module.")
        if getattr(generator, "latent_dim", None) is None:
            raise ValueError(
                f"{self.of}: {_name(generator)} has no latent_dim; set self.latent_dim, the size of a latent, in its "
                "__init__."
            )
        size = self._latent_dim(generator, generator)
        self._check_layers(generator)
        self._check_images(generator, (2, size), precision(generator))
        return cast(Generator, generator)

    def of_images(self, role: str, network: Network, generator: Generator) -> Any:
        """What a network makes of two images of a generator, whose parameters it does not share."""
        if not isinstance(network, nn.Module):
            raise ValueError(f"{self.of}: the {role} is {network!r}; give a torch.nn.Module.")
        made, said = tuple(generator.image_shape), getattr(network, "image_shape", None)
        if said is not None and tuple(said) != made:
            raise ValueError(
                f"{self.of}: the generator makes images of shape {made}, the {role} takes {tuple(said)}; give both the "
                "same image_shape."
            )
        self._check_layers(network)
        self._check_apart(network, generator)
        try:
            return trial(network, 2, *made, dtype=precision(generator)).output
        except Exception as error:
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise ValueError(
                f"{self.of}: {_name(network)} cannot take images of shape {(2, *made)}: {reason}."
            ) from error


def _name(network: nn.Module) -> str:
    return type(network).__name__
