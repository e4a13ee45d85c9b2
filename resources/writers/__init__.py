"""Prompt and description writers behind one protocol (`base`), one module each."""
