"""Classes of other frameworks on llamaq; each module needs its framework, and none is imported unless asked for."""
