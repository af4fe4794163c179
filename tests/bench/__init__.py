"""Figures, not assertions: times as ratios of interleaved pairs, memory as the peak of a process of
its own.

python -m tests.bench              # every figure, as one JSON object
python -m tests.bench step         # one of them
python -m tests.bench --quick      # fewer pairs
"""
