"""The command line: `keras-secure demo`, `keras-secure verify`, `keras-secure version`."""
