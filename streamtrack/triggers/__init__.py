"""Triggers: from what the tracks do to commands."""
