"""Make the images of Figure 3: what the detector sees in a corner of one test image."""

from __future__ import annotations

import numpy as np
import torch

from papers.vp_dsd.data import holograms_of, recipe_of
from papers.vp_dsd.detection.embeddings import embedding_of
from papers.vp_dsd.detection.matching import of_images
from papers.vp_dsd.imaging.simulator import specimen
from shared.config import Spec
from shared.datasets import DatasetError
from shared.training import Result, axis_seed

SHOWN = 64  # pixels a side


def example(spec: Spec, device: torch.device, session: dict) -> Result | None:
    """Show a corner of a test image: phase behind its cells, hologram, amplitude after T, cells there and found.

    The phase is not wrapped. `true` and `found` hold rows and columns in pixels of the corner.
    """
    holograms = holograms_of(spec, device)
    if not holograms.simulated:
        raise DatasetError(f"{spec.dataset} is recorded: nobody knows the phase right behind its cells")
    embedding = embedding_of(spec, holograms, device, session)
    if embedding is None:
        return None
    number, side = holograms.numbers(2)[:1], min(SHOWN, holograms.images.shape[1])
    hologram = torch.from_numpy(holograms.images[number[0]])
    amplitude = holograms.optics.to_object(hologram).abs() / float(embedding.network.unit)
    phase = specimen(recipe_of(spec), axis_seed(spec.seed, "holograms"), 2, 0)
    panels = {"phase": phase, "hologram": hologram.numpy(), "amplitude": amplitude.numpy()}
    curves = {name: np.round(panel[:side, :side], 3).tolist() for name, panel in panels.items()}
    for name, points in (("true", holograms.cells), ("found", embedding.found)):
        centres = of_images(points, number).centres
        curves[name] = np.round(centres[(centres < side).all(1)], 2).tolist()
    return Result(
        {"last": {}}, curves=curves, data={spec.dataset: holograms.sha256()}, says="drawn", method=embedding.network
    )
