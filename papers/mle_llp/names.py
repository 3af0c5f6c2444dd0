"""What training measures and tables show under the same names; apart, so that tables need no torch."""

TIMED = ("supervised", "dllp", "llp_gan", "mle_llp")  # the methods of Table 1
SIZES = (2, 4, 8, 12, 16, 32, 64, 128, 256, 512, 1024)  # of the bags in the timing of the E-step
