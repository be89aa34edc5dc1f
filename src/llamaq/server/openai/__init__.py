"""OpenAI's protocol: chat completions, responses, completions, embeddings, models."""
