"""Every benchmark, one after the other: ``python -m benchmarks``; writes results/bench/*.csv."""

from benchmarks import training, transport

if __name__ == "__main__":
    transport.main([])
    training.main([])
