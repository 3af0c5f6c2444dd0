"""Import what this package takes of ultralytics, so that nothing else of the process changes."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image

__all__ = ["DEFAULT_CFG", "Detect", "DetectionModel", "non_max_suppression", "v8DetectionLoss"]


@contextlib.contextmanager
def _aside() -> Iterator[None]:
    """An import in here writes no settings, asks no network and says nothing.

    On import ultralytics writes a settings file into the user's home, looks whether it is online, logs to standard
    output, sets environment variables, print options and warning filters, and replaces `torch.save` by one that tries
    four times and `PIL.Image.open` by one that would install a decoder for what it does not know. The settings go to a
    folder that is gone afterwards, the rest is put back.
    """
    environment, save, opened = dict(os.environ), torch.save, Image.open
    with (
        tempfile.TemporaryDirectory(prefix="ultralytics-") as folder,
        warnings.catch_warnings(),
        np.printoptions(),
    ):
        os.environ.update(YOLO_CONFIG_DIR=folder, YOLO_OFFLINE="true", YOLO_VERBOSE="false", YOLO_AUTOINSTALL="false")
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(environment)
            torch.save, Image.open = save, opened
            torch.set_printoptions(profile="default")


with _aside():
    # Where torchvision is not imported, `non_max_suppression` takes a loop of its own: ten times slower, and in another
    # order where scores are equal.
    import torchvision  # noqa: F401
    from ultralytics.nn.modules import Detect
    from ultralytics.nn.tasks import DetectionModel
    from ultralytics.utils import DEFAULT_CFG
    from ultralytics.utils.loss import v8DetectionLoss
    from ultralytics.utils.nms import non_max_suppression
