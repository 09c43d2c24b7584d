"""The tools that agents see, in one explicit table; one thin module per tool.

A tool takes typed arguments, calls one service and returns one `Result`. It has no I/O and no `try` of its own: the
error boundary and the strict argument checks stand in `server`.
"""
