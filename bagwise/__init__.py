"""Take one piece: losses, labels and solvers for learning from bags, on torch tensors.

    from bagwise import rot_loss, kl_loss, vp_loss, relabel, posterior, exclusive_cross_entropy, exact, sinkhorn

A name is imported when it is first asked for, so that one piece costs no other. In a checkout the names are those of
`shared` and `papers`; a build (setup.py) puts what they need under this one name.
"""

from importlib import import_module

__version__ = "0.1.0"
# {module: its names that are pieces}. A new piece is one entry here: the build finds what of this repository it needs
# by its imports; what it needs of others is named in pyproject.toml, under an extra where no other piece does.
PIECES = {
    "shared.bags": ("BagError", "Bags", "check_bags", "segment_mean", "segment_sum"),
    "shared.methods": ("LLPGAN", "LLPVAT", "Batch", "LossMethod", "Method", "kl_loss"),
    "shared.transport": ("exact", "largest_remainder", "round_to_labels", "sinkhorn", "unbalanced_sinkhorn"),
    "shared.points.matching": ("match",),
    "papers.rot.loss": ("avgkl_loss", "relax_lp_loss", "rot_loss"),
    "papers.mle_llp.loss": ("count_loss", "counts_of", "posterior"),
    "papers.plot.labels": ("LabelHistory", "relabel"),
    "papers.plot.loss": ("mixup", "sce_loss", "symmetric_cross_entropy"),
    "papers.vp_dsd.loss": ("mse_loss", "vp_loss"),
    "papers.ece.loss": ("Annealing", "exclusive_binary_cross_entropy", "exclusive_cross_entropy"),
}
EXTRA = {  # the same of pieces that need the extra `sklearn`; `import *` leaves them out
    "papers.benchmark.estimator": ("BagClassifier",),
    "papers.benchmark.splitters": ("BagKFold",),
}
_WHERE = {name: module for table in (PIECES, EXTRA) for module, names in table.items() for name in names}
__all__ = sorted(name for names in PIECES.values() for name in names)


def __getattr__(name: str) -> object:
    """Import a piece, which the module then holds."""
    if name not in _WHERE:
        raise AttributeError(f"bagwise has no piece {name!r}; its pieces are {', '.join(_WHERE)}")
    try:
        globals()[name] = piece = getattr(import_module(_WHERE[name]), name)
    except ModuleNotFoundError as error:
        lacking = str(error.name).partition(".")[0]
        if lacking not in ("sklearn", "yaml"):
            raise
        raise ModuleNotFoundError(f"{name} needs {lacking}: pip install 'bagwise[sklearn]'") from error
    return piece


def __dir__() -> list[str]:
    return [*globals(), *_WHERE]
