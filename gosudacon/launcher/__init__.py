"""The sealing launcher: a small static C program that starts the interpreter."""
