"""The command line, `keras-secure`: a file for each subcommand, none with logic of its own."""
