"""The plug for systems under test: what the lab must know to start, ask and promote the nodes of one."""

from lab.cluster.hosts import Hosts
from lab.errors import PlanError
from lab.plan import CONTROLLER, ROCKETMQ, Plan
from lab.planfile import nearest
from lab.rundir import RunDir
from lab.systems.dledger import elects
from lab.systems.system import System
from lab.topology import Topology

SYSTEMS = ("python", ROCKETMQ)


def system_of(plan: Plan, topology: Topology, folder: RunDir, hosts: Hosts) -> System:
    """The system that the plan names. Raises PlanError for an unknown one."""
    if plan.cluster.system == "python":
        from lab.systems.python import PythonSystem  # its imports are only needed by whoever runs it

        return PythonSystem(plan, topology, folder, hosts)
    if plan.cluster.system == ROCKETMQ:
        from lab.systems.rocketmq.controlled import ControlledRocketMQ
        from lab.systems.rocketmq.groups import RocketMQGroups
        from lab.systems.rocketmq.system import RocketMQSystem

        controlled = plan.cluster.mode == CONTROLLER
        kind = ControlledRocketMQ if controlled else RocketMQGroups if elects(plan) else RocketMQSystem
        return kind(plan, topology, folder, hosts)
    raise PlanError(f"unknown system {plan.cluster.system!r}{nearest(plan.cluster.system, SYSTEMS)}")
