"""Each paper has one subpackage; what a paper invents lives in its folder."""
