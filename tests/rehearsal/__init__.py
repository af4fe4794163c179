"""A release check: media and annotation files like a benchmark's own, and every stage of a run on
them.
"""
