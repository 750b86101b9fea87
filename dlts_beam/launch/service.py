"""What a module must offer to run the trainer's container."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Protocol

from dlts_beam.launch.job import TrainerJob

Say = Callable[[str], None]


class Service(Protocol):
    """`dlts_beam.launch.docker` and its neighbours are of this type, and mypy checks it."""

    #: Its name in sentences.
    TITLE: str
    #: Whether it runs elsewhere and so reads gs:// only.
    REMOTE: bool
    #: GPUs where ``--gpus`` does not say.
    GPUS: int

    def add_flags(self, add: Callable[..., Any]) -> None:
        """Add the flags that only this service has; ``add`` is ``add_argument`` of their group.

        They all default to None, so that one given for another service is noticed.
        """

    def make_request(self, job: TrainerJob, flags: argparse.Namespace) -> Any:
        """All that is sent, checked against the service's own types; touches no network.

        Raises:
            DltsError: a flag or a library is missing, or the service cannot do what is asked for.
        """

    def show(self, request: Any) -> str:
        """The request as text: what ``--dry-run`` prints."""

    def run(self, request: Any, job: TrainerJob, say: Say, follow: bool) -> None:
        """Send the request; with ``follow`` pass the trainer's lines on until it has ended.

        Raises:
            DltsError: the service cannot be reached or refuses, or the training did not succeed.
        """
