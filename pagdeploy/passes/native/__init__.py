"""What `lower_native` is made of."""
