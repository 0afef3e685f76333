"""Recordings of one's own: from folders to scores, p-values, spans and bands, and a page that plays them."""
