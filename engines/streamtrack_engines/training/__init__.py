"""Training of the networks on simulated crops."""
