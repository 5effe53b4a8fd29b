"""Which records belong together: pure, columns in, columns out."""
