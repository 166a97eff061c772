"""What the command-line tools share: how they are asked, and what is said of a question that is not one."""

import argparse

from .errors import RomosaicError


class Arguments(argparse.ArgumentParser):
    """
    Parser whose refusal is one line.

    Parameters
    ----------
    name : str
        The tool's script.
    description : str
        What it does.
    """

    def __init__(self, name: str, description: str) -> None:
        super().__init__(prog=f"python scripts/{name}.py", description=description)

    def error(self, message: str) -> None:
        """Raise instead of printing."""
        raise RomosaicError(self.prog, message, "--help lists its options")

    def add_number(self, name: str, text: str, kind: type = float, required: bool = True) -> None:
        """
        Add an option that is a number.

        Parameters
        ----------
        name : str
            Such as ``--ra``.
        text : str
            What it means.
        kind : type, optional
            float or int.
        required : bool, optional
            It must be given.
        """
        self.add_argument(name, type=kind, required=required, help=text)
