"""Numbers that compiled loops and their callers share; apart, for who loads machine code imports no loop: no numba."""

MISFIT, ODD = -1, -2  # answers of exact transport in place of a solution, see `shared.transport.bag_solver.solve_bags`
SAFE, STOPPED = 0, 1  # how a bag's steps ended: all made or converged; at numbers that are no longer safe
TERMS = 5  # differences of steps that an extrapolation combines; with 9 it was taken back more often
