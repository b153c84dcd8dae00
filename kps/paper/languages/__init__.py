"""The catalogues of our own words on the paper: one `<language>.po` for each language but English."""
