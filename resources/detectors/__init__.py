"""Face detectors behind one protocol (`base`), one module each."""
