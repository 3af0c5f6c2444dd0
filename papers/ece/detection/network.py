"""Build the detection network (Section 4.1): ours in ultralytics' terms, for many small objects, trained from scratch.

It stands in for YOLLO (van Rijthoven et al. 2018), whose layers are not public.
"""

from __future__ import annotations

import math

from torch import nn

from papers.ece.detection.criterion import AnchorTerms
from papers.ece.detection.library import DEFAULT_CFG, Detect, DetectionModel, v8DetectionLoss

STRIDE = 8  # of the coarsest map, to a multiple of which images are padded; detections are made at stride 4
# The probability of an object that every anchor starts from (assumed, tuned on development seeds). ultralytics' own,
# 5 / (640 / stride)^2 = 2e-4 at stride 4, is of few objects in photographs; here up to a third of the anchors are on
# nuclei, and a short training would spend its steps on that bias.
PRIOR = 0.1
MOMENTUM = 0.1  # torch's; ultralytics' .03 averages batch statistics for longer than a short training goes on


def yollo_stand_in(width: int) -> dict:
    """Return rows of (from, repeats, module, arguments) as in ultralytics' YAML, with `width` channels at stride 2.

    Features of stride 8 join those of stride 4, the only scale that detects: nuclei are 8 to 25 pixels across.
    ``reg_max`` 1 leaves out ultralytics' distributions of distances (DFL): 16 bins would start all boxes at 60 pixels,
    which overlap no nucleus.
    """
    return {
        "nc": 1,
        "reg_max": 1,
        "backbone": [
            [-1, 1, "Conv", [width, 3, 2]],  # 0
            [-1, 1, "Conv", [2 * width, 3, 2]],  # 1, stride 4
            [-1, 1, "C2f", [2 * width, True]],  # 2
            [-1, 1, "Conv", [4 * width, 3, 2]],  # 3, stride 8
            [-1, 1, "C2f", [4 * width, True]],  # 4
        ],
        "head": [
            [-1, 1, "nn.Upsample", [None, 2, "nearest"]],  # 5
            [[-1, 2], 1, "Concat", [1]],  # 6
            [-1, 1, "C2f", [2 * width]],  # 7, stride 4
            [[7], 1, "Detect", ["nc"]],  # 8
        ],
    }


DETECTORS = {"yollo_stand_in": yollo_stand_in}


class Network(DetectionModel):
    """Map images (B, 3, H, W) to boxes and scores of H/4 x W/4 anchors; weights from torch's global generator.

    Parameters
    ----------
    detector : one of `DETECTORS`.
    width : channels at stride 2, a multiple of 8.
    terms : of (scores (B, A, 1), target scores (B, A, 1)) -> terms (B, A, 1).
    """

    def __init__(self, detector: str, width: int, terms: AnchorTerms):
        if detector not in DETECTORS:
            raise ValueError(f"detector {detector!r} is not one of {', '.join(DETECTORS)}")
        if width < 8 or width % 8:
            raise ValueError(f"a detector's width is a multiple of 8, to which ultralytics rounds; {width} is none")
        super().__init__(DETECTORS[detector](width), ch=3, verbose=False)
        self.terms = terms
        self.args = DEFAULT_CFG  # gains of the losses: boxes 7.5, scores .5, distances 1.5
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = MOMENTUM
            elif isinstance(module, Detect):
                for branch in module.cv3:
                    nn.init.constant_(branch.get_parameter("2.bias"), math.log(PRIOR / (1 - PRIOR)))

    def init_criterion(self) -> v8DetectionLoss:
        """Return ultralytics' own, with `terms` where it has binary cross-entropy.

        The assignment of anchors to objects, the losses of boxes, and the sum of the terms over anchors divided by the
        sum of the target scores stay ultralytics'.
        """
        criterion = super().init_criterion()
        criterion.bce = self.terms
        return criterion
