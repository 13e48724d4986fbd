"""Evaluation: average precision, complexity, latency."""
