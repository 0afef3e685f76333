"""Figures: frames and arrays in, matplotlib figures out. style.py and cells.py are what they share."""
