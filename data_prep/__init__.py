"""From each benchmark's own files to one dataset folder: `python -m data_prep NAME --source DIR --out DIR`."""
