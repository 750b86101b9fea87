"""Do the dates of samples fit each other, a timeline and a model? By the rule that step 4 goes by."""

from __future__ import annotations

from collections.abc import Sequence

from dlts_beam.errors import DltsError
from dlts_beam.fit_rule import dated, day_of_year_distance, first_apart, seasons_apart, uncovered
from dlts_beam.spec import SamplesSpec, Timeline, TimeStep


def check_dates(
    specs: Sequence[SamplesSpec], folders: Sequence[str], timeline: Timeline | None, tolerance: float
) -> None:
    """Folders train one model only where their dates agree, years aside; a timeline must be covered.

    Where samples have intervals of their own, the folder's time steps are no more than one of these: then
    seasons are not compared.

    Args:
        tolerance: days by which the days of the year may differ.

    Raises:
        DltsError: which dates differ between which folders, or what the timeline asks for in vain.
    """
    for spec, folder in zip(specs, folders, strict=True):
        ends = None if timeline is None else uncovered(timeline, spec.steps, tolerance)
        if ends is not None:
            raise DltsError(
                f"--timeline does not fit the samples in {folder}: it runs from {ends[0]} to {ends[1]}, and "
                f"their series from {_span(spec.steps)}; choose one that the series covers"
            )
        nominal = spec.interval or specs[0].interval
        problem = dates_problem(
            spec.steps, specs[0].steps, f"those in {folders[0]}", timeline, tolerance, nominal
        )
        if problem is not None:
            raise DltsError(
                f"the samples in {folder} and in {folders[0]} cannot train one model: {problem}; extract "
                "them from the same season, or train a model for each"
                + ("; --timeline puts irregular dates on common ones" if timeline is None else "")
            )


def dates_problem(
    steps: Sequence[TimeStep],
    others: Sequence[TimeStep],
    whose: str,
    timeline: Timeline | None,
    tolerance: float,
    nominal: bool = False,
) -> str | None:
    """What keeps samples of some time steps from a model of others, for a sentence; None if nothing does.

    Args:
        steps: of the samples.
        others: what they are held against, as many where there is no timeline.
        whose: what to call these, such as ``the model's``.
        timeline: the regular timeline that takes them, if any.
        tolerance: days by which the days of the year may differ.
        nominal: whether samples of either side have intervals of their own, in whatever season.
    """
    if timeline is None:
        pair = None if nominal else first_apart(steps, others, tolerance)
        if pair is None:
            return None
        apart = day_of_year_distance(pair[0].day, pair[1].day)
        return (
            f"their time step {pair[0].number} is of {pair[0].label}, {whose} of {pair[1].label}, "
            f"{apart:.0f} days apart in the year, and --date-tolerance allows {tolerance:g}"
        )
    if dated(steps) != dated(others):
        which = whose if dated(steps) else "they"
        return f"the timeline counts in days, and {which} have no dates"
    ends = uncovered(timeline, steps, tolerance)
    if ends is not None:
        return f"the timeline runs from {ends[0]} to {ends[1]}, and their series from {_span(steps)}"
    begins_apart = None if nominal else seasons_apart(timeline, steps, others, tolerance)
    if begins_apart is not None:
        return (
            f"their series begins at {steps[0].label}, {whose} at {others[0].label}, {begins_apart:.0f} days "
            "apart in the year"
        )
    return None


def _span(steps: Sequence[TimeStep]) -> str:
    return f"{steps[0].label} to {steps[-1].label}"
