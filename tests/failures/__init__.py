"""Every failure that a tool can meet, as a table: what is there, what is asked, what must be said, what must stay.

A new tool gets the rows that all tools have by itself (`common.py`); its own go into a module here, and that into
`ROWS` (`table.py`).
"""
