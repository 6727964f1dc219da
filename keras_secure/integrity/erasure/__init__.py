"""An erasure code over shards of files: any m parity shards make up for any m lost ones."""
