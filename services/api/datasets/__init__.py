"""Datasets: names that the installation knows, and what their checks found."""
