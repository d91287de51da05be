"""The CVM's image: what is measured of it, and the bytes that are."""
