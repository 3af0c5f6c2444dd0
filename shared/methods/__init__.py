"""Collect the Method protocol, and the methods and losses several papers share."""

from shared.methods.least_cost import least_cost
from shared.methods.llp_gan import LLPGAN
from shared.methods.llp_vat import LLPVAT
from shared.methods.method import Batch, LossMethod, Method
from shared.methods.proportion import kl_loss

__all__ = ["LLPGAN", "LLPVAT", "Batch", "LossMethod", "Method", "kl_loss", "least_cost"]
