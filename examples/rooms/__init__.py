"""A pixel-gated network trained on procedurally rendered rooms, with its data and weights."""
