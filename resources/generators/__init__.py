"""Image generators behind one protocol (`base`), one module each."""
