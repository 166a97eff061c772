"""
The start of asdf with the plugins of Roman files, and their schemas, both made once for many files.

asdf and roman_datamodels read their manifests at start with the YAML library's loader in pure Python, and asdf
parses every schema that a tree refers to again for each file.
"""

import gc
from functools import cache


@cache
def load_plugins() -> None:
    """Import asdf and roman_datamodels, and load what is registered with asdf: before they are first used."""
    import yaml

    plain, collecting = yaml.SafeLoader, gc.isenabled()
    # The same values from the compiled parser, a second sooner; and nothing of all this is garbage.
    yaml.SafeLoader = getattr(yaml, "CSafeLoader", plain)
    gc.disable()
    try:
        import asdf
        import roman_datamodels.datamodels  # noqa: F401

        # Asked for here, they are part of every later `asdf.config_context`, which makes its own otherwise.
        settings = asdf.get_config()
        _ = settings.extensions, settings.resource_manager
    finally:
        yaml.SafeLoader = plain
        if collecting:
            gc.enable()


def schema_error(file, tree) -> Exception | None:
    """
    Hold a tree against the schemas of its tags.

    Parameters
    ----------
    file : asdf.AsdfFile
        The file that it is of.
    tree : dict
        As ``asdf.util.load_yaml(path, tagged=True)`` gives it.

    Returns
    -------
    asdf.ValidationError or None
        The first thing that is wrong: what asdf itself raises with `validate_on_read`.
    """
    errors = _validator(file.version_string).iter_errors(tree)
    error = next(errors, None)
    # Half-way through, it would remember the tree as seen when the next one has its place in memory.
    errors.close()
    return error


@cache
def _validator(version: str):
    import asdf
    from asdf.schema import get_validator

    return get_validator({}, ctx=asdf.AsdfFile(version=version))
