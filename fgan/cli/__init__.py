"""The command line, one file a command: each lists its name with a line of help in a literal `COMMANDS`, and holds a
dataclass `Command` whose fields are the options and whose call does the work. The room may import all others, but a
command imports what needs jax only when it is called, so that help is instant. A new command is one file.
"""
