"""Who asked for which change."""
