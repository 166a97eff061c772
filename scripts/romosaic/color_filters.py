"""Which filters a colour picture shows; rules ask at every start, so that nothing heavy is imported."""

from collections.abc import Sequence

from .names import FILTERS


def choose_filters(given: Sequence[str], wanted: Sequence[str] = ()) -> tuple[str, ...]:
    """
    Filters for red, green and blue.

    Parameters
    ----------
    given : sequence of str
        Filters that a skycell has.
    wanted : sequence of str, optional
        Red, green and blue; empty: the longest wavelength, the middle one, the shortest.

    Returns
    -------
    tuple of str
        Three filters; none when the skycell does not have them.
    """
    if wanted:
        return tuple(wanted) if set(wanted) <= set(given) else ()
    known = [element for element in reversed(FILTERS) if element in given]
    return (known[0], known[len(known) // 2], known[-1]) if len(known) >= 3 else ()
