"""The config file: its model, how it is read, checked, edited and written."""
