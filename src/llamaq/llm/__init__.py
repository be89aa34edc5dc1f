"""The library's front: ``LLM`` and ``Session``, and what they show of a model."""
