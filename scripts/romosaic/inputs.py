"""The files that a run starts from, known before anything has run."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from .config import input_files
from .errors import ConfigError
from .names import SUFFIX, exposure_name


@dataclass(frozen=True)
class Inputs:
    """
    Input files of a run.

    Attributes
    ----------
    exposures : dict
        Level-2 files by exposure name, those of the users' associations included.
    own : list of str
        The files among them that are made into skycell products.
    associations : list of str
        Users' associations.
    simulated : list of str
        Names of the exposures that `simulate` makes.
    """

    exposures: dict[str, str]
    own: list[str]
    associations: list[str]
    simulated: list[str]

    def state(self) -> str:
        """
        Digest of the sizes and dates of the input files, but for those that the run makes itself.

        One that is replaced by an older file is not newer than the results: its date must count, not its age.
        """
        own = self.exposures.keys() - set(self.simulated)
        digest = hashlib.sha256()
        for path in sorted({*self.associations, *(self.exposures[name] for name in own)}):
            found = os.stat(path)
            digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
        return digest.hexdigest()[:16]


def find(config: dict, where: object = "configuration") -> Inputs:
    """
    Find the input files that a configuration names.

    Parameters
    ----------
    config : dict
        Validated configuration.
    where : str, optional
        What to call the configuration in messages.

    Raises
    ------
    ConfigError
        A path that matches nothing; two files with one exposure name.
    AssociationError
        An association that cannot be used: its form, or members that do not exist.
    """
    simulated = _simulated(config)
    made = [f"{config['output_dir']}/simulate/{name}{SUFFIX}" for name in simulated]
    exposures: dict[str, str] = {}
    problems: list[str] = []

    def given(key: str) -> list[str]:
        try:
            return [str(path) for path in input_files(config, key, where)]
        except ConfigError as error:
            problems.extend(error.problems)
            return []

    def add(paths: list[str]) -> None:
        for path in paths:
            other = exposures.setdefault(exposure_name(path), path)
            if other != path and Path(other).resolve() != Path(path).resolve():
                problems.append(f"exposures: two files for one exposure: {other} and {path}")

    add(made + given("exposures"))
    own, associations = list(exposures.values()), given("associations")
    if not problems:
        add(_members(associations, simulated, config["associate"]["allow_outside"]))
    if problems:
        raise ConfigError(where, list(dict.fromkeys(problems)))
    return Inputs(exposures, own, associations, simulated)


def _simulated(config: dict) -> list[str]:
    if not config["simulate"]["exposures"]:
        return []
    from .simulate_plan import exposure_names

    return exposure_names(config["simulate"])


def _members(associations: list[str], simulated: list[str], outside: bool) -> list[str]:
    """Files of the science members of all associations; those that are yet to be simulated may be missing."""
    if not associations:
        return []
    from .user_association import member_files, read_association, refuse_missing

    found = []
    for path in associations:
        content = read_association(path, outside)
        files = member_files(path, content)
        refuse_missing(path, files, simulated)
        found += files
    return [str(file) for file in found]
