"""This machine and what is installed on it: hardware, accounts, training environments, clients."""
