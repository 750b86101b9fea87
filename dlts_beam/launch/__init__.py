"""Where a trainer container can run: one module per service, behind one registry.

A further service is one module that offers what `dlts_beam.launch.service.Service` lists, and one line here.
The libraries of a service are imported when it is used.
"""

from __future__ import annotations

from dlts_beam.launch import docker, kubernetes, vertex
from dlts_beam.launch.job import Mount, TrainerJob, make_job, metrics_path
from dlts_beam.launch.service import Service

__all__ = ["SERVICES", "Mount", "Service", "TrainerJob", "make_job", "metrics_path"]

SERVICES: dict[str, Service] = {
    "docker": docker,
    "kubernetes": kubernetes,
    "vertex": vertex,
}
