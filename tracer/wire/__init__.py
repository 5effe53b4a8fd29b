"""The bytes: their layout, and the file that keeps them."""
