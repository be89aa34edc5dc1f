"""Ollama's protocol: generate, chat, embed, and what is told of models."""
