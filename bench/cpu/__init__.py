"""What the CPU benchmarks share: blocks, masks, honest timing. See bench/cpu_blocks.py."""
