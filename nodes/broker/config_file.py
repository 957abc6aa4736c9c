"""A broker's role in its configuration file, changed as an operator would change it by hand. Pure.

Source: the manual switch-over of RocketMQ: edit brokerId and brokerRole, restart.
"""

from __future__ import annotations

from nodes.config import BrokerRole

__all__ = ["with_role"]


def with_role(text: str, role: BrokerRole, broker_id: int) -> str:
    """The file's text with the two keys set; comments, order and every other line stay as they are."""
    wanted = {"brokerId": str(broker_id), "brokerRole": role.value}
    lines = []
    for line in text.splitlines():
        key = line.split("=", 1)[0].split(":", 1)[0].strip()
        if "=" not in line or key not in ("brokerId", "brokerRole"):
            lines.append(line)
        elif key in wanted:
            lines.append(f"{key}={wanted.pop(key)}")
    lines.extend(f"{key}={value}" for key, value in wanted.items())
    return "\n".join(lines) + "\n"
