"""A run from launch to its end: start, list, look at, wait for, stop, resume, sample; its metrics and logs."""
