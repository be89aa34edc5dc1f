"""Images for language models: a projector file's encoder, and what stands around its rows in a prompt."""
