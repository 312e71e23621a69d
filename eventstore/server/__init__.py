"""The shell: HTTP, settings and the command line."""
