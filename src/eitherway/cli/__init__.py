"""The command line: a module here without a leading underscore is a verb, and its first line is the verb's help.

A verb's module holds a function of its own name, and imports what it needs inside it: `--help` must cost nothing. Only
here, and in run/progress, is anything printed.
"""
