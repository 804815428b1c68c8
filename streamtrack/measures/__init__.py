"""Measures add what else is known of each particle: brightness, size, class.

:mod:`.tracks` has them called, within their budgets, and keeps their means. The other modules are the measures.
"""
