"""What in a movie a simulation must have to look like it."""
