"""The subcommands of `pointins`, one a file, each with ``run(words)``."""
