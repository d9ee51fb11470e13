"""What `lower_gather` and `switch_dense` are made of: regions, pixel lists, rows and products."""
