"""Searches with their trials, fronts, measurements and events."""
