"""Fuzz targets, one for each parser of bytes that somebody else wrote; see docs/fuzzing.md."""
