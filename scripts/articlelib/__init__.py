"""The article's figures: traces and outputs between markers in the page, and the pictures beside it."""
