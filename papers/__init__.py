"""One subpackage per paper; what a paper invents lives in its folder."""
