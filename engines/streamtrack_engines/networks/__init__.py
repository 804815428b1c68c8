"""Neural networks: from frames to the channels that a head reads."""
