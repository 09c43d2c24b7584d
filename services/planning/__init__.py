"""From a model, data and hardware to plans with memory, time and reasons."""
