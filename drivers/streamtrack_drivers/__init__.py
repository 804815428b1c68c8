"""Frame sources: movies on disk and the simulator."""
