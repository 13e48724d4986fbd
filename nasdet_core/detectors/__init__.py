"""Detectors: backbone, neck and head put together."""
