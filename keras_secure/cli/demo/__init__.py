"""`keras-secure demo`: the whole way from data to a hardened, signed and audited model."""
