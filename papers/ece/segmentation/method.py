"""Train a segmentation network on random crops of images whose annotation is sparse, and read it out."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from papers.ece.criteria import Criterion
from papers.ece.loss import entering, foreground
from papers.ece.windows import cut, draw, paste
from shared.methods import Batch


class Segmenter:
    """Join network, optimiser and criterion as a method of `shared.training.fit`: a bag is the number of one image.

    Each number in a batch becomes a random crop with flips; images are scaled to [-1, 1] by their own least and largest
    value, as in the authors' example, which has neither crops nor flips nor an order by chance.

    Parameters
    ----------
    network : (B, 3, side, side) -> (B, 2, side, side) outputs, 0 background.
    images, masks : (H, W, 3) uint8 and (H, W) bool of each training image, True where annotated.
    steps : updates in all; the criterion's time t is the share of them that is done.
    elr : (beta, lambda) of early-learning regularisation (Liu et al. 2020, Equations 5 and 6), whose loss is
        ``terms + lambda log(1 - <p, m>)``, m the running mean of the predictions p of a pixel, from 0; None for none.
    """

    def __init__(
        self,
        network: nn.Module,
        optimiser: torch.optim.Optimizer,
        criterion: Criterion,
        images: Sequence[np.ndarray],
        masks: Sequence[np.ndarray],
        crop: int,
        steps: int,
        elr: tuple[float, float] | None = None,
    ):
        self.network, self.optimiser, self.criterion = network, optimiser, criterion
        self.crop, self.steps, self.elr, self.step = crop, steps, elr, 0
        self.device = next(network.parameters()).device
        self.images = [torch.from_numpy(image).permute(2, 0, 1).to(self.device) for image in images]
        self.masks = [torch.from_numpy(mask).to(self.device) for mask in masks]
        self.ranges = torch.stack([_range(image) for image in self.images])
        self.memory = [torch.zeros(2, *mask.shape, device=self.device) for mask in self.masks if elr]

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step on crops of the images numbered ``batch.x`` (B, 1).

        Returns
        -------
        loss
        kept : the share of the unannotated pixels whose terms were kept.
        """
        if not self.network.training:  # telling every layer takes a tenth of a small step
            self.network.train()
        numbers = batch.x[:, 0].long().tolist()
        windows = draw([tuple(self.masks[i].shape) for i in numbers], self.crop)
        places = list(zip(numbers, windows, strict=True))
        ranges = self.ranges[batch.x[:, 0].long().to(self.device, non_blocking=True)]
        x = _standardised(torch.stack([cut(self.images[i], window) for i, window in places]), ranges)
        target = torch.stack([cut(self.masks[i], window) for i, window in places]).long()
        logits = self.network(x)
        loss = self.criterion(logits, target, self.step / self.steps).mean()
        if self.elr:
            loss = loss + self._early_learning(logits, places, *self.elr)
        self.optimiser.zero_grad()
        loss.backward()
        self.optimiser.step()
        self.step += 1
        return {"loss": loss.detach(), "kept": self.criterion.kept}

    def _early_learning(self, logits: Tensor, places: list, beta: float, weight: float) -> Tensor:
        # As in the authors' code, probabilities stay away from 0 and 1, where the logarithm has no end.
        p = entering(logits, self.criterion.head).softmax(1).clamp(1e-4, 1 - 1e-4)
        means = torch.stack([cut(self.memory[i], window) for i, window in places])
        means = beta * means + (1 - beta) * p.detach()
        for (i, window), mean in zip(places, means, strict=True):
            paste(self.memory[i], window, mean)
        return weight * (1 - (p * means).sum(1)).log().mean()

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return the (B, H, W) probability of the foreground of (B, 3, H, W) in [-1, 1], multiples of the poolings."""
        self.network.eval()
        return foreground(self.network(x), self.criterion.head)

    def set_learning_rate(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def state_dict(self) -> dict:
        network, optimiser = self.network.state_dict(), self.optimiser.state_dict()
        return {"network": network, "optimiser": optimiser, "step": self.step, "memory": self.memory}

    def load_state_dict(self, state: dict) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        self.memory = [mean.to(self.device) for mean in state["memory"]]


def predict_map(method: Segmenter, images: Sequence[np.ndarray], multiple: int) -> list[np.ndarray]:
    """Return the probability of the foreground at each pixel of whole images.

    Parameters
    ----------
    images : (H, W, 3) uint8 each; mirrored at the lower and right border up to a `multiple` of pixels, and cut back.

    Returns
    -------
    (H, W) float32 each.
    """
    maps = []
    for image in images:
        height, width = image.shape[:2]
        pixels = torch.from_numpy(image).permute(2, 0, 1).to(method.device)
        x = _standardised(pixels[None], _range(pixels)[None])
        x = nn.functional.pad(x, (0, -width % multiple, 0, -height % multiple), mode="reflect")
        maps.append(method.predict(x)[0, :height, :width].cpu().numpy())
    return maps


def _range(image: Tensor) -> Tensor:
    return torch.stack([image.amin(), image.amax()]).float()


def _standardised(pixels: Tensor, ranges: Tensor) -> Tensor:
    """Return (B, 3, H, W) float32 in [-1, 1] of uint8 and (B, 2) extremes; -1 where an image is flat."""
    least, largest = ranges[:, :, None, None, None].unbind(1)
    x = (pixels - least) * (2 / (largest - least).clamp_min(1)) - 1
    return x.contiguous(memory_format=torch.channels_last)
