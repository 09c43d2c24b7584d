"""Publishing: what goes out, where to, with whose yes; the push itself is a run."""
