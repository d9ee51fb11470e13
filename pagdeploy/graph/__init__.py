"""A graph in hand: read it, edit it, show it as text, write it."""
