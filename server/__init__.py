"""The protocol surface: the server object, its transports, its error boundary, the command line."""
