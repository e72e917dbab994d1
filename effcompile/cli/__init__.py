"""The command line: parser, commands, rendering."""
