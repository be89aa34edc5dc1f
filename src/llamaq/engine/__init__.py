"""From a file to what runs it: packed weights, the paged cache, memory, threads."""
