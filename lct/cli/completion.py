"""`lct completion`: the script that a shell reads, as in eval "$(lct completion bash)"."""

import argparse

from lct.cli.verb import Result


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh"), help="shell to complete in")


def completion(arguments: argparse.Namespace) -> Result:
    """The script for a shell, from the parser of all verbs."""
    import shtab

    script = shtab.complete(arguments.parser, shell=arguments.shell)
    return 0, {"shell": arguments.shell, "script": script}, script.rstrip("\n")
