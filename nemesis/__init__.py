"""How to hurt, how to heal, how to prove both; never when."""

from nemesis.catalogue import CatalogueError, FaultSpec, parse
from nemesis.fault import Action, Incident, Record, Verified
from nemesis.flaws import LeverFlaw, numb
from nemesis.world import Configuration, Members, Patience, Role, RoleReport, World

__all__ = [
    "Action",
    "CatalogueError",
    "Configuration",
    "FaultSpec",
    "Incident",
    "LeverFlaw",
    "Members",
    "Patience",
    "Record",
    "Role",
    "RoleReport",
    "Verified",
    "World",
    "numb",
    "parse",
]
