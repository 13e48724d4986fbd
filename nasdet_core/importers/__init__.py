"""Importers: published checkpoints under the names of our modules."""
