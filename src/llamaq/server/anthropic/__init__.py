"""Anthropic's protocol: messages, and the counting of their tokens."""
