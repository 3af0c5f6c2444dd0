"""Every benchmark, one after the other: ``python -m benchmarks``; writes results/bench/*.csv."""

from benchmarks import e_step, exclusive, relabel, training, transport

if __name__ == "__main__":
    transport.main([])
    training.main([])
    e_step.main([])
    relabel.main([])
    exclusive.main([])
