"""From the headers of image files to the spec of a series: pure, no file is opened here."""
