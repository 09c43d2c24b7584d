"""Fuzzing: arguments by the thousand, over the real wire; what every answer must be, whatever was asked."""
