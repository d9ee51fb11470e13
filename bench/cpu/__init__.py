"""What the CPU benchmarks share. See bench/cpu_blocks.py and bench/cpu_networks.py."""
