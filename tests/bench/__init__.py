"""Figures, not assertions: times as ratios of interleaved pairs, memory as the peak of a process of
its own.

python -m tests.bench              # every figure, as a JSON object for each bench
python -m tests.bench step         # one of them
python -m tests.bench --quick      # fewer pairs
"""
