"""Each benchmark's files in, one dataset folder out: `python -m data_prep NAME --source DIR --out DIR`."""
