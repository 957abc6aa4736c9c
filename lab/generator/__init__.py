"""What will be asked and broken, when: pure and seeded; the same plan and seed give the same schedule."""

from lab.generator.faults import FaultPlan, fault_schedule
from lab.generator.operations import Op, log_schedule, send_schedule
from lab.generator.threads import Kind, Thread, Threads, threads_of

__all__ = [
    "FaultPlan",
    "Kind",
    "Op",
    "Thread",
    "Threads",
    "fault_schedule",
    "log_schedule",
    "send_schedule",
    "threads_of",
]
