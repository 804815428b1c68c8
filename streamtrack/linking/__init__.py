"""Linkers: from detections to tracks, frame by frame."""
