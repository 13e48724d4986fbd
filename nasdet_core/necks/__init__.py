"""Necks: from backbone levels to the levels that a head takes."""
