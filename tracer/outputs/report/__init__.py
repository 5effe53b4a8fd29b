"""A capture as one HTML page: what is in it, by columns; the trees of its paths; the page itself."""
