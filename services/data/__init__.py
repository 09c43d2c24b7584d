"""Datasets: what is in them, what is wrong with them, how their rows are mapped and rendered."""
