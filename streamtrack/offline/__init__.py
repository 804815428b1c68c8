"""Many movies, or long ones, on all cores or a cluster: blocks of frames are searched elsewhere, linked here."""
