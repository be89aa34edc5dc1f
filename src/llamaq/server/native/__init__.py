"""llama-server's own protocol: completion, tokens, templates, ranking, and what the server tells of itself."""
