"""Make the detector a method of `shared.training.fit`: learning from crops, finding in whole images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from papers.ece.detection.library import non_max_suppression
from papers.ece.detection.network import STRIDE, Network
from papers.ece.metrics import Found
from papers.ece.windows import cut, draw, shift_boxes
from shared.datasets import DatasetError
from shared.datasets.localised.localised import Localised
from shared.methods import Batch

FLOOR = 0.01  # the least probability of a detection: below any threshold that could be chosen
OVERLAP = 0.5  # IoU from which two boxes are taken for one object
MOST = 4000  # detections an image


def boxes_of(data: Localised, wanted: np.ndarray) -> list[np.ndarray]:
    """Return the (k, 4) float32 boxes of each image's objects that `wanted` (M,) bool marks.

    Raises
    ------
    DatasetError
        When such a box is empty or leaves its image; it names image and object.
    """
    found = []
    for i, image in enumerate(data.images):
        rows = np.arange(*data.offsets[i : i + 2])
        rows = rows[wanted[rows]]
        boxes = data.boxes[rows]
        inside = (boxes[:, :2] >= 0) & (boxes[:, :2] < boxes[:, 2:]) & (boxes[:, 2:] <= image.shape[:2])
        for row in rows[~inside.all(1)][:1]:
            raise DatasetError(
                f"{data.name}: object {data.numbers[row]} of image {data.names[i]} has the box "
                f"{data.boxes[row].tolist()} (top, left, bottom, right), which is empty or leaves the "
                f"{image.shape[0]} x {image.shape[1]} pixels of the image: correct it"
            )
        found.append(boxes)
    return found


def standardised(image: np.ndarray) -> Tensor:
    """Return (3, H, W) float32 of an image (H, W, 3) uint8, stretched to [-1, 1] by its extremes."""
    values = torch.from_numpy(image).permute(2, 0, 1).float()
    low, high = values.min(), values.max()
    return (values - low) / (high - low).clamp_min(1) * 2 - 1


class Detector:
    """Train a `Network` on crops with flips; a bag is one image, by its place in `images`, proportions are not read.

    Gradients are clipped to norm 10, as ultralytics' trainer does.

    Parameters
    ----------
    network : on the device where it is to learn.
    rate : of Adam.
    images : (H, W, 3) uint8 each; sizes may differ.
    boxes : (k, 4) float32 each, top, left, bottom, right of the objects annotated in the image; k may be 0.
    side : of the crops, in pixels, a multiple of `STRIDE`.
    steps : updates from first to last, over which the criterion's time runs from 0 to 1.

    Raises
    ------
    ValueError
        When there is no box in any image, or the side is no such multiple.
    """

    def __init__(
        self,
        network: Network,
        rate: float,
        images: Sequence[np.ndarray],
        boxes: Sequence[np.ndarray],
        side: int,
        steps: int,
    ):
        if not sum(map(len, boxes)):
            raise ValueError(f"no object is annotated in any of {len(images)} images: there is nothing to learn")
        if side % STRIDE:
            raise ValueError(f"crops of {side} pixels are no multiple of the network's stride of {STRIDE}: change crop")
        self.device = next(network.parameters()).device
        self.network, self.side, self.steps, self.step = network, side, steps, 0
        self.parameters = list(network.parameters())
        self.optimiser = torch.optim.Adam(self.parameters, rate, fused=True)
        self.images = [standardised(image).to(self.device) for image in images]
        self.boxes = [torch.from_numpy(some) for some in boxes]

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Take one step; besides the sum of the losses, `kept` is the share of unannotated anchors that counted."""
        numbers = batch.x[:, 0].long().tolist()
        windows = draw([self.images[i].shape[1:] for i in numbers], self.side)
        boxes = [shift_boxes(self.boxes[i], window) for i, window in zip(numbers, windows, strict=True)]
        place = torch.cat([torch.full((len(some),), float(n)) for n, some in enumerate(boxes)])
        top, left, bottom, right = (torch.cat(boxes) / self.side).unbind(1)
        given = {
            "batch_idx": place,
            "cls": torch.zeros_like(place),
            "bboxes": torch.stack([(left + right) / 2, (top + bottom) / 2, right - left, bottom - top], 1),
        }
        given = {name: value.to(self.device, non_blocking=True) for name, value in given.items()}
        given["img"] = torch.stack([cut(self.images[i], window) for i, window in zip(numbers, windows, strict=True)])
        if not self.network.training:  # telling every layer takes a tenth of a small step
            self.network.train()
        self.network.terms.t = self.step / self.steps
        losses, _ = self.network.loss(given)
        loss = losses.sum() / len(numbers)
        self.optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 10.0)
        self.optimiser.step()
        self.step += 1
        return {"loss": loss.detach(), "kept": self.network.terms.kept}

    @torch.no_grad()
    def predict(self, x: Tensor) -> Tensor:
        """Return (N, 5, A), x, y, width, height, p, of `standardised` (N, 3, H, W), H and W multiples of `STRIDE`."""
        self.network.eval()
        return self.network(x)[0]

    def found(self, images: Sequence[np.ndarray]) -> Found:
        """Return what is detected in whole images (H, W, 3) uint8 with probability `FLOOR` or more, no non-maxima."""
        parts = [self._found(image) for image in images]
        offsets = np.cumsum([0] + [len(part) for part in parts])
        rows = np.concatenate(parts) if parts else np.zeros((0, 7), np.float32)
        return Found(offsets, rows[:, :2], rows[:, 2:6], rows[:, 6])

    def _found(self, image: np.ndarray) -> np.ndarray:
        """(k, 7): centre, box within the image, probability."""
        size = torch.tensor(image.shape[:2])
        bottom, right = (-size % STRIDE).tolist()
        x = functional.pad(standardised(image)[None].to(self.device), (0, right, 0, bottom), mode="replicate")
        predicted = self.predict(x).cpu()
        # One image a call: after 2 seconds ultralytics leaves out the rest of a batch.
        (rows,) = non_max_suppression(predicted, FLOOR, OVERLAP, max_det=MOST)
        boxes = rows[:, [1, 0, 3, 2]]
        centres = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centres >= 0) & (centres < size)).all(1)
        boxes = boxes.clamp_min(0).minimum(size.repeat(2))
        return torch.cat([centres, boxes, rows[:, 4:5]], 1)[inside].numpy()

    def set_learning_rate(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            group["lr"] = rate

    def state_dict(self) -> dict:
        return {"network": self.network.state_dict(), "optimiser": self.optimiser.state_dict(), "step": self.step}

    def load_state_dict(self, state: dict) -> None:
        self.network.load_state_dict(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
