"""Triggers see what tracks do; rules make commands of it.

:mod:`.view` says which tracks a trigger sees, :mod:`.rule` what follows when it saw something. The other modules are
the triggers, and what several of them need.
"""
