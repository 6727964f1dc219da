"""A corpus of model files for scanners: harmful ones of many kinds, and clean exports.

Everything harmful here would at most leave an empty file in the folder for temporary files
(`payloads.MARKER`); the rest points at files and addresses without reading them.
"""
