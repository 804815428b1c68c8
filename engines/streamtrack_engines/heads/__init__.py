"""Heads: what the channels that a network gives mean, how they are learnt, and the table of particles made of them."""
