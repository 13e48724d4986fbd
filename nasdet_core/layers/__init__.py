"""Layers shared by supernets and standalone networks."""
