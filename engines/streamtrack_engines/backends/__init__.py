"""Back ends that run the deploy graph."""
