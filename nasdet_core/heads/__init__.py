"""Heads: predictions, training losses and detections from pyramid levels."""
