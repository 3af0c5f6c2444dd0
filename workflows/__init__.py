"""Rules, set-up and the Snakemake launcher."""
