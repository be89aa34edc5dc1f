"""What runs a file: packed weights, the paged cache, memory, threads."""
