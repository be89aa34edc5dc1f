"""Many requests on one engine: the scheduler, the tree of prefixes, answers and what readers see of them."""
