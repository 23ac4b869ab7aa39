"""The pictures that weights are calibrated on: the user's photographs, or the package's generated pictures.

What is done with them is left to `calibration`.
"""
