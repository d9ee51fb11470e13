"""How long things take, measured so that two of them can be compared."""
