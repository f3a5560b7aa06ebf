"""From settings to processes: what is checked across them, and the supervisor's plan."""

from narthex.serving.machine import Machine
from narthex.serving.planner import SCHEMA, Planner

__all__ = ["SCHEMA", "Machine", "Planner"]
