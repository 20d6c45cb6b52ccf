"""The command line: option tables, one module per command, output formats."""
