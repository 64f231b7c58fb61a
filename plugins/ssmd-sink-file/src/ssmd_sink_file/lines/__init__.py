"""Lines: what a frame looks like in the archive, under which name, and the way back."""
