"""Hold the number of detections against the concentration of white cells, the proxy of detection in Section 3.

Of real donors the laboratory knows how many cells there are in a volume of blood, and nobody where they are.
"""

from __future__ import annotations

import numpy as np

from papers.vp_dsd.imaging.holograms import Holograms


def concentrations(holograms: Holograms) -> np.ndarray | None:
    """Return each subject's concentration (S,), as recorded; else its cells an image; None where neither is known."""
    if holograms.concentrations is not None:
        return holograms.concentrations
    if holograms.cells is None:
        return None
    return _by_subject(np.diff(holograms.cells.offsets), holograms)


def concentration_scores(counts: np.ndarray, holograms: Holograms) -> dict[str, float]:
    """Return how well detections an image tell test subjects' concentrations; nothing where these are not known.

    One factor, from the validation subjects, turns detections an image into a concentration: the volume seen need not
    be known.

    Parameters
    ----------
    counts : (n,) detections in each image; those of the training images are not read.

    Returns
    -------
    concentration_error : mean absolute error over the concentration, in percent, of test subjects.
    constant_concentration_error : the same if all had the mean concentration of the validation subjects.
    concentration_correlation : Pearson's, over test subjects; left out where either side does not vary.
    """
    truth = concentrations(holograms)
    if truth is None:
        return {}
    mean = _by_subject(counts, holograms)
    held, test = (np.isfinite(mean) & np.isfinite(truth) & (holograms.splits == split) for split in (1, 2))
    if not held.any() or not test.any() or not mean[held].sum():
        return {}
    predicted = {"": mean[test] * truth[held].sum() / mean[held].sum(), "constant_": truth[held].mean()}
    found = {
        f"{name}concentration_error": 100 * float((np.abs(value - truth[test]) / truth[test]).mean())
        for name, value in predicted.items()
    }
    if np.ptp(mean[test]) and np.ptp(truth[test]):
        found["concentration_correlation"] = float(np.corrcoef(mean[test], truth[test])[0, 1])
    return found


def _by_subject(counts: np.ndarray, holograms: Holograms) -> np.ndarray:
    """Return the mean over each subject's images, (S,); nan for a subject without one."""
    n = len(holograms.proportions)
    images = np.bincount(holograms.subjects, minlength=n)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.bincount(holograms.subjects, counts, n) / images
