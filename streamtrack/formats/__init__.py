"""Tables of tracks as files: ours and those of other programs."""
