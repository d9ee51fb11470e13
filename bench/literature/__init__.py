"""Networks of the literature, step by step from their authors' PyTorch to a row of a table."""
