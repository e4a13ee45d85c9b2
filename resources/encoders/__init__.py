"""Face encoders behind one protocol (`base`), one module each."""
