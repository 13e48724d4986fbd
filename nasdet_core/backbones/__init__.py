"""Backbones: one family per file, elastic and standalone side by side."""
