"""The command line: thin commands over the client, the compiler and the local stack.

Data goes to stdout, everything else to stderr. Heavy modules are imported inside the commands, so that
``planter --help`` stays quick.
"""
