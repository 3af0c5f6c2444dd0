"""Every benchmark, one after the other: ``python -m benchmarks``; writes results/bench/*.csv."""

from benchmarks import e_step, training, transport

if __name__ == "__main__":
    transport.main([])
    training.main([])
    e_step.main([])
