"""Give each method one colour, marker and dash in the figures of all papers, told apart without colour vision.

Any two of `COLOURS` differ under simulated deuteranopia and in grey; methods that share one differ in marker and dash.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

COLOURS = {  # from dark to light, blue and yellow in turn: what is left of them without red and green
    "black": "#000000",
    "indigo": "#33228A",
    "brown": "#74420A",
    "blue": "#006DAE",
    "vermillion": "#DA5B00",
    "sky": "#4AA8E0",
    "amber": "#EFB425",
}
LONG, BROKEN = (0, (8, 2)), (0, (6, 1, 1, 1, 1, 1))
STYLES: dict[str, tuple[str, str, str | tuple]] = {
    "supervised": ("black", "*", ":"),
    # Losses of bags; KL is DLLP's.
    "kl": ("blue", "o", "-"),
    "dllp": ("blue", "o", "-"),
    "avgkl": ("amber", "^", ":"),
    "rot": ("vermillion", "s", "--"),
    "llp_gan": ("indigo", "^", "--"),
    "llp_vat": ("brown", "v", "-"),
    "llp_vat_exact": ("brown", "<", "--"),
    "mle_llp": ("vermillion", "P", "-"),
    "mle_direct": ("amber", "D", "--"),
    "mse": ("indigo", "v", "-."),
    "vp_l2": ("amber", "v", "--"),
    "vp_ce": ("vermillion", "D", "-"),
    "flm": ("brown", "P", ":"),
    "pc": ("black", "X", "-"),
    "exact_lp": ("blue", "<", "-."),
    "count_likelihood": ("indigo", "8", LONG),
    "easy_llp": ("indigo", "P", BROKEN),
    "llpfc": ("black", "<", "-."),
    "mixbag": ("sky", "d", "-."),
    # A second stage, after whatever comes first.
    "plot": ("sky", "s", "--"),
    "+sce+hard": ("sky", "s", "--"),
    "+continued": ("amber", "D", ":"),
    # Losses of partial annotations.
    "ce": ("blue", "o", "-"),
    "ce-logit": ("blue", "P", "--"),
    "focal": ("amber", "^", "--"),
    "focal-logit": ("amber", "v", ":"),
    "huber": ("brown", "v", ":"),
    "huber-logit": ("brown", "<", "--"),
    "ece-code": ("vermillion", "s", "-"),
    "ece-code-no_sampling": ("vermillion", "X", ":"),
    "ece-code-logit": ("vermillion", "p", "--"),
    "ece-sigmoid": ("sky", "D", "--"),
    "ece-sigmoid-logit": ("sky", ">", ":"),
    "ece-linear": ("sky", "^", "-."),
    "constant": ("black", "h", "--"),
    "constant-logit": ("black", "d", ":"),
    "elr": ("indigo", "<", "-."),
    "elr-logit": ("indigo", "H", ":"),
    "weak0.75": ("brown", "p", "-"),
    "weak0.75-logit": ("brown", "d", "-."),
    "weak0.5": ("indigo", "X", "-"),
    "weak0.5-logit": ("indigo", "P", "--"),
}
SPARE_MARKERS, SPARE_DASHES = ("8", "H", "d", "p", "<", ">"), (BROKEN, LONG, "-.")

# Of what is no method, one after the other.
CYCLE: list[dict[str, Any]] = [
    {"color": COLOURS[colour], "marker": marker, "linestyle": dashes}
    for colour, marker, dashes in zip(
        ("blue", "vermillion", "amber", "indigo", "sky", "brown", "black"),
        "os^vDPX",
        ("-", "--", ":", "-.", "-", "--", ":"),
        strict=True,
    )
]


def method_style(name: str) -> dict[str, Any]:
    """Return a method's colour, marker and linestyle, the same in every figure of every paper.

    A variant that has no style of its own ("kl-gan") has the colour of what it varies, any other name a colour of its
    own; its marker and its dashes follow from its name.
    """
    if style := STYLES.get(name) or STYLES.get(name[name.find("+") :] if "+" in name else ""):
        colour, marker, dashes = style
    else:
        base = STYLES.get(re.split("[+-]", name)[0])
        drawn = hashlib.sha256(name.encode()).digest()
        colour = base[0] if base else list(COLOURS)[drawn[0] % len(COLOURS)]
        marker, dashes = SPARE_MARKERS[drawn[1] % len(SPARE_MARKERS)], SPARE_DASHES[drawn[2] % len(SPARE_DASHES)]
    return {"color": COLOURS[colour], "marker": marker, "linestyle": dashes}
