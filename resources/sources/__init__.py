"""Source photos: from a path or URL into the store, checked once and never changed."""
