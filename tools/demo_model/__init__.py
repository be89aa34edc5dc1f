"""The model that comes with llamaq: its corpus, its tokenizer, its training (README.md in this folder)."""
