"""The core five replications stand on: datasets, bags, transport, methods, training, records, comparison."""
